# The one version number, and what a build needs of this tree: a change elsewhere (docs, CI, Nix) rebuilds nothing.
{ lib }:
let
  root = ../.;
  inherit (lib) fileset;
  rust = fileset.unions [
    ../strops-rs/Cargo.toml
    ../strops-rs/Cargo.lock
    ../strops-rs/src
    ../strops-rs/tests
    ../strops.pyi
    ../LICENSE
  ];
  package = fileset.unions [
    rust
    ../pyproject.toml
    ../README.md
    ../stt
    ../tui
    ../nemo_lite
  ];
  source =
    files:
    fileset.toSource {
      inherit root;
      fileset = files;
    };
in
{
  inherit ((builtins.fromTOML (builtins.readFile ../strops-rs/Cargo.toml)).package) version;
  lockFile = ../strops-rs/Cargo.lock;
  strops = source rust;
  stt = source package;
  tests = source (
    fileset.unions [
      package
      ../tests
      ../benchmarks
      ../examples
      # what tests/deploy holds against the program
      ../.github
      ../CHANGELOG.md
      ../CITATION.cff
      ../Containerfile
      ../Makefile
      ../deploy
      ../docs
      ../nix
      ../packaging
    ]
  );
}
