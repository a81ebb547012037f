# Everything that nix/tests/run asserts, with stand-ins for nixpkgs: how many tests there are, and those that failed.
# With { unit = "cpu"; } or { unit = "cuda"; }: the service file that the module makes, as NixOS would write it.
{
  unit ? null,
  program ? null,
}:
let
  lib = import ./standin/lib.nix;
  pkgs = import ./standin {
    system = "x86_64-linux";
    overlays = [ (import ../overlay.nix) ];
    config.cudaSupport = true;
  };
  tests =
    import ./module.nix { inherit lib pkgs; }
    // import ./sandbox.nix { inherit lib pkgs; }
    // import ./flake.nix { inherit lib; };

  inherit
    (lib.evalModules {
      specialArgs = { inherit pkgs; };
      modules = [
        ../modules/stt.nix
        {
          options = lib.genAttrs [ "assertions" "warnings" "systemd" "networking" ] (_: lib.mkOption { });
        }
        {
          services.stt = {
            enable = true;
            device = unit;
            package = pkgs.stt // {
              outPath = program;
            };
            apiKeyFile = "/etc/stt/api-keys";
          };
        }
      ];
    })
    config
    ;
  service = config.systemd.services.stt;
  text =
    value:
    if builtins.isBool value then
      lib.optionalString value "true" + lib.optionalString (!value) "false"
    else
      toString value;
  line =
    name: value:
    lib.concatMapStrings (each: "${name}=${text each}\n") (
      if builtins.isList value then value else [ value ]
    );
  section = values: lib.concatMapStrings (name: line name values.${name}) (builtins.attrNames values);
in
if unit == null then
  {
    count = builtins.length (builtins.attrNames tests);
    failures = lib.runTests tests;
  }
else
  ''
    [Unit]
    ${line "Description" service.description}${line "Wants" service.wants}${line "After" service.after}
    [Service]
    ${
      lib.concatMapStrings (name: "Environment=\"${name}=${service.environment.${name}}\"\n") (
        builtins.attrNames service.environment
      )
    }${section service.serviceConfig}''
