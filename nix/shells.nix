# `nix develop`: everything to work on stt; `nix develop .#strops`: the Rust library alone.
{ pkgs }:
let
  rust = [
    pkgs.cargo
    pkgs.clippy
    pkgs.rust-analyzer
    pkgs.rustc
    pkgs.rustfmt
  ];
in
{
  default = pkgs.mkShell {
    # the dependencies of stt, not stt itself: that is the tree one works on
    packages = rust ++ [
      (pkgs.python3.withPackages (
        python:
        python.stt.dependencies
        ++ [
          python.hibari-tts
          python.httpx
          python.hypothesis
          python.jiwer
          python.jsonschema
          python.onnx
          python.playwright
          python.pytest
          python.pytest-asyncio
          python.pytest-timeout
          python.pytest-xdist
          python.pyyaml
          python.soxr
          python.srt
          python.strops
          python.webvtt-py
          python.zeroconf
        ]
      ))
      pkgs.basedpyright
      pkgs.maturin
      pkgs.nixfmt
      pkgs.ruff
    ];
    env.ORT_DISABLE_TELEMETRY = "1";
    shellHook = ''
      export PYTHONPATH="$PWD''${PYTHONPATH:+:$PYTHONPATH}"
      stt() { python -m stt.cli "$@"; }
    '';
  };

  strops = pkgs.mkShell {
    packages = rust ++ [
      pkgs.maturin
      pkgs.python3
    ];
  };
}
