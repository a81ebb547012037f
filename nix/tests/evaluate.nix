# The module, evaluated as a NixOS system would: what its tests ask.
{ lib, pkgs }:
let
  # Where a NixOS system would declare what the module defines.
  system =
    { lib, ... }:
    let
      inherit (lib) mkOption types;
      anything = mkOption {
        type = types.attrsOf types.raw;
        default = { };
      };
    in
    {
      options = {
        assertions = mkOption {
          type = types.listOf types.raw;
          default = [ ];
        };
        warnings = mkOption {
          type = types.listOf types.str;
          default = [ ];
        };
        networking.firewall.allowedTCPPorts = mkOption {
          type = types.listOf types.port;
          default = [ ];
        };
        networking.firewall.allowedUDPPorts = mkOption {
          type = types.listOf types.port;
          default = [ ];
        };
        systemd.services = anything;
      };
    };
in
rec {
  evaluate =
    settings:
    lib.evalModules {
      specialArgs = { inherit pkgs; };
      modules = [
        ../modules/stt.nix
        system
        settings
      ];
    };
  of = settings: (evaluate { services.stt = settings; }).config;
  unitOf = settings: (of ({ enable = true; } // settings)).systemd.services.stt;
  service = settings: (unitOf settings).serviceConfig;
  start = settings: (service settings).ExecStart;
  fails = expression: !(builtins.tryEval (builtins.deepSeq expression null)).success;
  brokenAssertions =
    config: map (it: it.message) (builtins.filter (it: !it.assertion) config.assertions);
}
