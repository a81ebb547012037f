{
  description = "Live speech-to-text you run yourself: turn by turn, in a terminal, over a WebSocket, or from files";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      overlay = import ./nix/overlay.nix;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
      perSystem =
        f:
        lib.genAttrs systems (
          system:
          f (
            import nixpkgs {
              inherit system;
              overlays = [ overlay ];
            }
          )
        );
      # CUDA is unfree, and a choice of the whole package set: torch, ctranslate2 and onnxruntime follow it.
      withCuda =
        pkgs:
        import nixpkgs {
          inherit (pkgs.stdenv.hostPlatform) system;
          overlays = [ overlay ];
          config = {
            allowUnfree = true;
            cudaSupport = true;
          };
        };
      linuxOnly = pkgs: lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux;
    in
    {
      overlays.default = overlay;

      nixosModules.default = ./nix/modules/stt.nix;

      packages = perSystem (
        pkgs:
        {
          inherit (pkgs) stt stt-server;
          inherit (pkgs.python3Packages) strops;
          default = pkgs.stt;
        }
        // linuxOnly pkgs { stt-cuda = (withCuda pkgs).stt; }
      );

      devShells = perSystem (
        pkgs:
        import ./nix/shells.nix { inherit pkgs; }
        // linuxOnly pkgs { cuda = (import ./nix/shells.nix { pkgs = withCuda pkgs; }).default; }
      );

      formatter = perSystem (pkgs: pkgs.nixfmt-tree);

      checks = perSystem (
        pkgs:
        {
          inherit (pkgs) stt;
          inherit (pkgs.python3Packages) strops;
          tests = pkgs.stt.tests.suite;
          # the same assertions that nix/tests/run makes with stand-ins, here with the real lib and packages
          module =
            let
              failures = lib.runTests (
                import ./nix/tests/module.nix { inherit lib pkgs; }
                // import ./nix/tests/sandbox.nix { inherit lib pkgs; }
              );
            in
            pkgs.runCommand "stt-module" { } (
              if failures == [ ] then "touch $out" else throw (lib.generators.toPretty { } failures)
            );
        }
        // linuxOnly pkgs {
          vm = import ./nix/tests/vm.nix {
            inherit pkgs;
            module = self.nixosModules.default;
          };
        }
      );
    };
}
