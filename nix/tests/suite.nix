# The project's own tests, run against the installed package.
{
  lib,
  runCommand,
  python,
  stt,
  hibari-tts,
  httpx,
  hypothesis,
  jiwer,
  jsonschema,
  onnx,
  playwright,
  pytest,
  pytest-asyncio,
  pytest-timeout,
  pytest-xdist,
  pyyaml,
  soxr,
  srt,
  transformers,
  webvtt-py,
  zeroconf,
}:
let
  source = import ../source.nix { inherit lib; };
  environment = python.withPackages (_: [
    stt
    hibari-tts
    httpx
    hypothesis
    jiwer
    jsonschema
    onnx
    playwright
    pytest
    pytest-asyncio
    pytest-timeout
    pytest-xdist
    pyyaml
    soxr
    srt
    transformers
    webvtt-py
    zeroconf
  ]);
in
runCommand "stt-${source.version}-suite" { nativeBuildInputs = [ environment ]; } ''
  export HOME=$TMPDIR ORT_DISABLE_TELEMETRY=1
  cp --recursive --no-preserve=mode ${source.tests} source
  cd source
  rm -r stt tui nemo_lite strops.pyi # the installed ones are meant
  pytest -n auto --dist worksteal
  touch $out
''
