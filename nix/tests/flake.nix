# What the flake puts out. Only with the stand-ins: `nix flake check` itself looks at the real thing.
{ lib }:
let
  flake = import ../../flake.nix;
  nixpkgs = {
    inherit lib;
    outPath = ./standin;
  };
  outputs = flake.outputs {
    self = outputs;
    inherit nixpkgs;
  };
  names = builtins.mapAttrs (_: builtins.attrNames);
  version = (builtins.fromTOML (builtins.readFile ../../strops-rs/Cargo.toml)).package.version;
  pyproject = builtins.fromTOML (builtins.readFile ../../pyproject.toml);
  # PEP 508, as far as pyproject.toml uses it: the name comes first
  dependencyName = dependency: builtins.head (builtins.match "([a-zA-Z0-9-]+).*" dependency);
  extras = pyproject.project.optional-dependencies;
  # what installs with these extras
  declared =
    names: map dependencyName (pyproject.project.dependencies ++ builtins.concatMap (name: extras.${name}) names);
  unique = builtins.foldl' (found: name: if builtins.elem name found then found else found ++ [ name ]) [ ];
  linux = outputs.packages.x86_64-linux;
  inputsOf = package: map (input: input.pname or input.name) package;
  sorted = builtins.sort (a: b: a < b);
in
{
  testOutputs = {
    expr = names outputs;
    expected = {
      checks = [
        "aarch64-darwin"
        "aarch64-linux"
        "x86_64-linux"
      ];
      devShells = [
        "aarch64-darwin"
        "aarch64-linux"
        "x86_64-linux"
      ];
      formatter = [
        "aarch64-darwin"
        "aarch64-linux"
        "x86_64-linux"
      ];
      nixosModules = [ "default" ];
      overlays = [ "default" ];
      packages = [
        "aarch64-darwin"
        "aarch64-linux"
        "x86_64-linux"
      ];
    };
  };
  testPackages = {
    expr = names outputs.packages;
    expected = rec {
      aarch64-darwin = [
        "default"
        "strops"
        "stt"
        "stt-server"
      ];
      aarch64-linux = [
        "default"
        "strops"
        "stt"
        "stt-cuda"
        "stt-server"
      ];
      x86_64-linux = aarch64-linux;
    };
  };
  testShells = {
    expr = names outputs.devShells;
    expected = rec {
      aarch64-darwin = [
        "default"
        "strops"
      ];
      aarch64-linux = [
        "cuda"
        "default"
        "strops"
      ];
      x86_64-linux = aarch64-linux;
    };
  };
  testChecks = {
    expr = names outputs.checks;
    expected = rec {
      aarch64-darwin = [
        "module"
        "strops"
        "stt"
        "tests"
      ];
      aarch64-linux = aarch64-darwin ++ [ "vm" ];
      x86_64-linux = aarch64-linux;
    };
  };
  testEveryOutputIsADerivation = {
    expr =
      builtins.concatMap
        (
          kind:
          builtins.concatMap (
            system:
            builtins.filter (name: outputs.${kind}.${system}.${name}.type or null != "derivation") (
              builtins.attrNames outputs.${kind}.${system}
            )
          ) (builtins.attrNames outputs.${kind})
        )
        [
          "checks"
          "devShells"
          "packages"
        ];
    expected = [ ];
  };
  testOneVersion = {
    expr = [
      linux.stt.version
      linux.strops.version
      (pyproject.project.version or "dynamic")
    ];
    expected = [
      version
      version
      "dynamic"
    ];
  };
  testTheDefaultIsTheApplication = {
    expr = [
      (linux.default == linux.stt)
      (linux.stt-server == linux.stt)
      linux.stt.isApplication
      (lib.getExe linux.stt)
    ];
    expected = [
      true
      true
      true
      "${linux.stt}/bin/stt"
    ];
  };
  testThePredecessorsCommand = {
    expr = builtins.match ".*makeWrapper [$]out/bin/stt [$]out/bin/stt-server --add-flags serve\n" linux.stt.postInstall;
    expected = [ ];
  };
  testCuda = {
    expr = [
      linux.stt.cudaSupport
      linux.stt-cuda.cudaSupport
      outputs.packages.aarch64-linux.stt-cuda.system
    ];
    expected = [
      false
      true
      "aarch64-linux"
    ];
  };
  testDependenciesAreThoseOfPyproject = {
    expr = sorted (inputsOf linux.stt.dependencies);
    expected = sorted (
      unique (declared [
        "canary"
        "zeroconf"
      ])
    );
  };
  testTheShellHasThemToo = {
    expr =
      let
        environment = builtins.head (
          builtins.filter (
            package: package.name == "python3-env"
          ) outputs.devShells.x86_64-linux.default.packages
        );
        inShell = inputsOf environment.packages;
      in
      builtins.filter (name: !builtins.elem name inShell) (
        declared [
          "canary"
          "test"
        ]
        ++ [ "strops" ]
      );
    expected = [ ];
  };
  testTheSuiteHasWhatTheTestsNeed = {
    expr =
      let
        inSuite = inputsOf (builtins.head outputs.checks.x86_64-linux.tests.nativeBuildInputs).packages;
      in
      builtins.filter (name: !builtins.elem name inSuite) (
        map dependencyName extras.test ++ [ pyproject.project.name ]
      );
    expected = [ ];
  };
  testTheOverlayAloneSuffices = {
    expr =
      let
        pkgs = import ./standin {
          system = "x86_64-linux";
          overlays = [ outputs.overlays.default ];
          config.cudaSupport = true;
        };
      in
      [
        pkgs.stt.cudaSupport
        (pkgs.stt-server == pkgs.stt)
        pkgs.python3Packages.strops.pname
      ];
    expected = [
      true
      true
      "strops"
    ];
  };
  testTheSourceIsWhole = {
    # every file that maturin is told of, and no more than what is built from
    expr = builtins.sort (a: b: a < b) (map baseNameOf linux.stt.src.fileset);
    expected = [
      "Cargo.lock"
      "Cargo.toml"
      "LICENSE"
      "README.md"
      "nemo_lite"
      "pyproject.toml"
      "src"
      "strops.pyi"
      "stt"
      "tests"
      "tui"
    ];
  };
}
