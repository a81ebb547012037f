# Stands in for nixpkgs, as `import nixpkgs { ... }`: a package set in which every package is its name and what it was
# built from. Enough to see that the flake's outputs evaluate and what they are made of; nothing can be built.
{
  system,
  overlays ? [ ],
  config ? { },
}:
let
  lib = import ./lib.nix;
  isLinux = lib.hasPrefix "linux" (builtins.substring (builtins.stringLength system - 5) 5 system);

  derivation' =
    attributes:
    let
      name = attributes.name or "${attributes.pname}-${attributes.version}";
      self = {
        type = "derivation";
        inherit name;
        outPath = "/nix/store/00000000000000000000000000000000-${name}";
        drvPath = "${self.outPath}.drv";
        meta = { };
        inherit system attributes;
      };
    in
    self // attributes // attributes.passthru or { };
  package =
    name:
    derivation' {
      inherit name;
      meta.mainProgram = name;
    };

  # callPackage: what a function asks for by name comes from the set
  callFrom =
    set: file: given:
    let
      function = import file;
      wanted = builtins.functionArgs function;
      found = builtins.intersectAttrs wanted set;
      missing = builtins.filter (name: !wanted.${name} && !(found ? ${name} || given ? ${name})) (
        builtins.attrNames wanted
      );
    in
    if missing == [ ] then
      function (found // given)
    else
      throw "${toString file}: the stand-in has no ${builtins.toJSON missing}";

  fix =
    f:
    let
      final = f final;
    in
    final;
  extend =
    overlays:
    fix (final: builtins.foldl' (prev: overlay: prev // overlay final prev) (base final) overlays);

  base =
    final:
    lib.genAttrs [
      "basedpyright"
      "cargo"
      "clippy"
      "maturin"
      "nixfmt"
      "nixfmt-tree"
      "ruff"
      "rust-analyzer"
      "rustc"
      "rustfmt"
    ] package
    // {
      inherit lib system;
      config = {
        cudaSupport = false;
      }
      // config;
      stdenv.hostPlatform = {
        inherit system isLinux;
        isDarwin = !isLinux;
      };
      extend = overlay: extend (overlays ++ [ overlay ]);
      mkShell = attributes: derivation' ({ name = "nix-shell"; } // attributes);
      runCommand =
        name: attributes: script:
        derivation' (attributes // { inherit name script; });
      installShellFiles = package "installShellFiles";
      makeWrapper = package "makeWrapper";
      testers.runNixOSTest = test: derivation' (test // { name = "vm-test-run-${test.name}"; });
      rustPlatform = {
        cargoSetupHook = package "cargo-setup-hook";
        maturinBuildHook = package "maturin-build-hook";
        importCargoLock =
          { lockFile }:
          derivation' {
            name = "cargo-vendor-dir";
            crates = (builtins.fromTOML (builtins.readFile lockFile)).package;
          };
      };
      pythonPackagesExtensions = [ ];
      python3 = final.python3Packages.python;
      python3Packages = fix (
        python:
        builtins.foldl' (
          prev: extension: prev // extension python prev
        ) (pythonBase final python) final.pythonPackagesExtensions
      );
    };

  pythonBase =
    final: python:
    final
    // lib.genAttrs [
      "av"
      "faster-whisper"
      "httpx"
      "huggingface-hub"
      "hypothesis"
      "jiwer"
      "jsonschema"
      "librosa"
      "numpy"
      "onnx"
      "onnxruntime"
      "peft"
      "platformdirs"
      "playwright"
      "prometheus-client"
      "python-multipart"
      "pytest"
      "pytest-asyncio"
      "pytest-timeout"
      "pytest-xdist"
      "pyyaml"
      "rapidfuzz"
      "safetensors"
      "shtab"
      "silero-vad"
      "sounddevice"
      "soundfile"
      "soxr"
      "srt"
      "starlette"
      "textual"
      "tokenizers"
      "torch"
      "torchaudio"
      "tqdm"
      "transformers"
      "uvicorn"
      "uvloop"
      "webvtt-py"
      "websockets"
      "zeroconf"
    ] package
    // {
      callPackage = callFrom python;
      buildPythonPackage = derivation';
      toPythonApplication = application: application // { isApplication = true; };
      fetchPypi = arguments: derivation' (arguments // { name = arguments.pname; });
      python = package "python3" // {
        sitePackages = "lib/python3.13/site-packages";
        withPackages = choose: package "python3-env" // { packages = choose python; };
      };
    };
in
extend overlays
