# strops by itself, for programs that merge transcripts but need nothing else of stt (whose wheel has it inside).
{
  lib,
  buildPythonPackage,
  rustPlatform,
  cargo,
  rustc,
}:
let
  source = import ../source.nix { inherit lib; };
in
buildPythonPackage {
  pname = "strops";
  inherit (source) version;
  src = source.strops;
  pyproject = true;

  cargoRoot = "strops-rs";
  buildAndTestSubdir = "strops-rs";
  cargoDeps = rustPlatform.importCargoLock { inherit (source) lockFile; };
  env.CARGO_TARGET_DIR = "../target"; # where maturinBuildHook looks for the wheel
  maturinBuildFlags = [ "--features=python" ];

  # maturin takes the stub and the licence from beside Cargo.toml
  postPatch = "cp strops.pyi LICENSE strops-rs/";

  nativeBuildInputs = [
    rustPlatform.cargoSetupHook
    cargo
    rustc
  ];
  build-system = [ rustPlatform.maturinBuildHook ];

  # the tests of the pure core, without Python
  doCheck = true;
  checkPhase = ''
    runHook preCheck
    cargo test --offline --locked --manifest-path strops-rs/Cargo.toml
    runHook postCheck
  '';
  pythonImportsCheck = [ "strops" ];

  meta = {
    description = "Merge the word sequences of overlapping transcripts";
    license = lib.licenses.mit;
  };
}
