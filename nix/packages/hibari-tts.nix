# A small text-to-speech, with which the tests make real-sounding speech. Not in nixpkgs.
{
  lib,
  buildPythonPackage,
  fetchPypi,
  numpy,
  onnxruntime,
}:
buildPythonPackage rec {
  pname = "hibari-tts";
  version = "0.2.1";
  format = "wheel";

  src = fetchPypi {
    pname = "hibari_tts";
    inherit version;
    format = "wheel";
    dist = "py3";
    python = "py3";
    hash = "sha256-SfKru+RRyYjnRIta+gjIpWQQU167hVwOfRdCdd9cofM=";
  };

  dependencies = [
    numpy
    onnxruntime
  ];

  pythonImportsCheck = [ "hibari" ];

  meta = {
    description = "Small English text-to-speech";
    homepage = "https://github.com/MMWilliams/hibari";
    license = lib.licenses.asl20;
  };
}
