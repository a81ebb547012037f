# What the unit of services.stt may do: its sandbox, with a GPU and without.
{ lib, pkgs }:
let
  inherit (import ./evaluate.nix { inherit lib pkgs; }) of service start;
in
{
  testHardening = {
    expr = builtins.removeAttrs (service { device = "cpu"; }) [
      "ExecStart"
      "Type"
      "TimeoutStartSec"
      "TimeoutStopSec"
      "WatchdogSec"
      "KillMode"
      "Restart"
      "RestartSec"
      "RestartPreventExitStatus"
      "LoadCredential"
      "CacheDirectory"
      "CacheDirectoryMode"
      "WorkingDirectory"
      "LimitNOFILE"
    ];
    expected = {
      DynamicUser = true;
      User = "stt";
      LimitCORE = 0;
      UMask = "0077";
      ProtectSystem = "strict";
      ProtectHome = true;
      PrivateTmp = true;
      PrivateDevices = true;
      DevicePolicy = "closed";
      DeviceAllow = [ ];
      PrivateUsers = true;
      PrivateIPC = true;
      PrivateMounts = true;
      ProtectClock = true;
      ProtectControlGroups = true;
      ProtectHostname = true;
      ProtectKernelLogs = true;
      ProtectKernelModules = true;
      ProtectKernelTunables = true;
      ProtectProc = "invisible";
      ProcSubset = "all";
      RemoveIPC = true;
      CapabilityBoundingSet = "";
      AmbientCapabilities = "";
      NoNewPrivileges = true;
      LockPersonality = true;
      RestrictAddressFamilies = [
        "AF_INET"
        "AF_INET6"
        "AF_UNIX"
      ];
      RestrictNamespaces = true;
      RestrictRealtime = true;
      RestrictSUIDSGID = true;
      SystemCallArchitectures = "native";
      SystemCallFilter = [
        "@system-service"
        "~@privileged"
        "~@resources"
      ];
      SystemCallErrorNumber = "EPERM";
    };
  };
  testCudaOpensTheGpuAndNothingElse = {
    expr =
      let
        cpu = service { device = "cpu"; };
        cuda = service { device = "cuda"; };
        names = builtins.attrNames (cpu // cuda);
      in
      map (name: { ${name} = cuda.${name}; }) (builtins.filter (name: cpu.${name} != cuda.${name}) names);
    expected = [
      {
        DeviceAllow = [
          "char-nvidia rw"
          "char-nvidia-frontend rw"
          "char-nvidiactl rw"
          "char-nvidia-uvm rw"
          "char-nvidia-caps rw"
        ];
      }
      { ExecStart = start { }; }
      { PrivateDevices = false; }
      {
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
        ];
      }
    ];
  };
}
