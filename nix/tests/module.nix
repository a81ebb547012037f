# What services.stt makes of its options. Runs with the real lib and packages (`nix flake check`) and with stand-ins
# (nix/tests/run).
{ lib, pkgs }:
let
  inherit (import ./evaluate.nix { inherit lib pkgs; })
    brokenAssertions
    evaluate
    fails
    of
    service
    start
    unitOf
    ;
  program = "${pkgs.stt}/bin/stt";
  usual = ''"${program}" "serve" "--host" "0.0.0.0" "--port" "15751" "--engine" "auto"'';
in
{
  testOffByDefault = {
    expr =
      let
        config = of { };
      in
      [
        config.systemd.services
        config.networking.firewall.allowedTCPPorts
        config.warnings
      ];
    expected = [
      { }
      [ ]
      [ ]
    ];
  };

  testDefaults = {
    expr = builtins.removeAttrs (of { enable = true; }).services.stt [ "package" ];
    expected = {
      enable = true;
      host = "0.0.0.0";
      port = 15751;
      device = "cuda";
      openFirewall = false;
      wyoming = {
        port = null;
        host = "127.0.0.1";
        endsTurns = false;
        announce = false;
      };
      engine = "auto";
      model = null;
      apiKeyFile = null;
      maxSessions = null;
      endOfTurn = null;
      drainTimeout = 20;
      allowedOrigins = [ ];
      tls = {
        certificate = null;
        key = null;
      };
      logFormat = "text";
      extraArgs = [ ];
      environment = { };
    };
  };
  testDefaultPackage = {
    expr = (of { enable = true; }).services.stt.package == pkgs.stt;
    expected = true;
  };
  testDefaultExecStart = {
    expr = start { };
    expected = ''${usual} "--device" "cuda" "--drain-timeout" "20" "--log-format" "text"'';
  };
  testEveryOptionOnTheCommandLine = {
    expr = start {
      host = "127.0.0.1";
      port = 8000;
      device = "cpu";
      engine = "whisper";
      model = "Systran/faster-whisper-small";
      apiKeyFile = "/run/secrets/keys";
      maxSessions = 20;
      endOfTurn = 0.8;
      drainTimeout = 2.5;
      allowedOrigins = [
        "https://a.example"
        "https://b.example"
      ];
      tls.certificate = "/var/lib/acme/fullchain.pem";
      tls.key = "/var/lib/acme/key.pem";
      wyoming = {
        port = 10300;
        host = "0.0.0.0";
        endsTurns = true;
        announce = true;
      };
      logFormat = "json";
      extraArgs = [ "--language=de" ];
    };
    expected = lib.concatMapStringsSep " " (part: part) [
      ''"${program}" "serve" "--host" "127.0.0.1" "--port" "8000" "--engine" "whisper" "--device" "cpu"''
      ''"--drain-timeout" "2.5" "--log-format" "json" "--model" "Systran/faster-whisper-small" "--max-sessions" "20"''
      ''"--end-of-turn" "0.8" "--allowed-origin" "https://a.example" "--allowed-origin" "https://b.example"''
      ''"--wyoming" "0.0.0.0:10300" "--wyoming-ends-turns" "--wyoming-announce"''
      ''--api-key-file %d/api-keys --tls-cert %d/tls-cert --tls-key %d/tls-key "--language=de"''
    ];
  };
  testSystemdExpandsNothing = {
    expr =
      lib.hasPrefix ''${usual} "--device" "cuda"'' (start { })
      &&
        builtins.match ''.* "--model" "/a b/100%%/[$][$]HOME"'' (start {
          model = "/a b/100%/$HOME";
        }) == [ ];
    expected = true;
  };

  testKeysAreCredentials = {
    expr =
      let
        it = unitOf { apiKeyFile = "/run/secrets/keys"; };
      in
      [
        it.serviceConfig.LoadCredential
        (builtins.match ".*/run/secrets.*" (it.serviceConfig.ExecStart + builtins.toJSON it.environment))
      ];
    expected = [
      [ "api-keys:/run/secrets/keys" ]
      null
    ];
  };
  testNoKeysNoCredentials = {
    expr = (service { }).LoadCredential;
    expected = [ ];
  };
  testKeysAreNeverInTheStore = {
    expr =
      map
        (
          path:
          fails (start {
            apiKeyFile = path;
          })
        )
        [
          "${builtins.storeDir}/00000000000000000000000000000000-keys"
          "keys"
          ./module.nix
        ];
    expected = [
      true
      true
      true
    ];
  };
  testTlsNeedsBoth = {
    expr =
      map
        (
          tls:
          builtins.length (
            brokenAssertions (of {
              enable = true;
              inherit tls;
            })
          )
        )
        [
          { }
          { certificate = "/a"; }
          { key = "/b"; }
          {
            certificate = "/a";
            key = "/b";
          }
        ];
    expected = [
      0
      1
      1
      0
    ];
  };
  testTlsIsCredentials = {
    expr =
      (service {
        tls.certificate = "/a";
        tls.key = "/b";
      }).LoadCredential;
    expected = [
      "tls-cert:/a"
      "tls-key:/b"
    ];
  };

  testFirewall = {
    expr = map (settings: (of settings).networking.firewall.allowedTCPPorts) [
      { enable = true; }
      {
        enable = true;
        openFirewall = true;
      }
      {
        enable = true;
        openFirewall = true;
        port = 8000;
      }
      { openFirewall = true; }
      {
        enable = true;
        openFirewall = true;
        wyoming.port = 10300;
      }
    ];
    expected = [
      [ ]
      [ 15751 ]
      [ 8000 ]
      [ ]
      [
        15751
        10300
      ]
    ];
  };

  testRenamedOptions = {
    expr =
      let
        inherit
          (evaluate {
            services.stt-server = {
              enable = true;
              port = 8001;
              host = "::1";
              device = "cpu";
              openFirewall = true;
              package = pkgs.stt-server;
            };
          })
          config
          ;
      in
      [
        (builtins.removeAttrs config.services.stt [
          "package"
          "tls"
          "wyoming"
        ])
        (config.services.stt.package == pkgs.stt-server)
        config.networking.firewall.allowedTCPPorts
        (lib.hasPrefix ''"${program}" "serve" "--host" "::1" "--port" "8001"'' config.systemd.services.stt.serviceConfig.ExecStart)
        (builtins.length config.warnings)
      ];
    expected = [
      {
        enable = true;
        host = "::1";
        port = 8001;
        device = "cpu";
        openFirewall = true;
        engine = "auto";
        model = null;
        apiKeyFile = null;
        maxSessions = null;
        endOfTurn = null;
        drainTimeout = 20;
        allowedOrigins = [ ];
        logFormat = "text";
        extraArgs = [ ];
        environment = { };
      }
      true
      [ 8001 ]
      true
      6
    ];
  };

  testEnvironment = {
    expr = (unitOf { environment.HF_ENDPOINT = "https://hub.example.com"; }).environment;
    expected = {
      HOME = "/var/cache/stt";
      XDG_CACHE_HOME = "/var/cache/stt";
      HF_HOME = "/var/cache/stt/huggingface";
      ORT_DISABLE_TELEMETRY = "1";
      HF_ENDPOINT = "https://hub.example.com";
    };
  };
  testOrder = {
    expr =
      let
        it = unitOf { };
      in
      [
        it.wants
        it.after
        it.wantedBy
        (unitOf { device = "cpu"; }).after
      ];
    expected = [
      [ "network-online.target" ]
      [
        "network-online.target"
        "systemd-modules-load.service"
      ]
      [ "multi-user.target" ]
      [ "network-online.target" ]
    ];
  };
  testLife = {
    expr = builtins.intersectAttrs {
      Type = 0;
      WatchdogSec = 0;
      Restart = 0;
      RestartPreventExitStatus = 0;
      DynamicUser = 0;
      CacheDirectory = 0;
      KillMode = 0;
    } (service { });
    expected = {
      Type = "notify";
      WatchdogSec = 30;
      Restart = "on-failure";
      RestartPreventExitStatus = 2;
      DynamicUser = true;
      CacheDirectory = "stt";
      KillMode = "mixed";
    };
  };
  testStateIsNowhereElse = {
    expr = builtins.intersectAttrs {
      StateDirectory = 0;
      LogsDirectory = 0;
      ConfigurationDirectory = 0;
      ReadWritePaths = 0;
    } (service { });
    expected = { };
  };
  testStopWaitsForTheDrain = {
    expr = map (drainTimeout: (service { inherit drainTimeout; }).TimeoutStopSec) [
      0
      20
      2.5
      300
    ];
    expected = [
      15
      35
      18
      315
    ];
  };

  testCudaWithoutCuda = {
    expr = map (settings: builtins.length (of ({ enable = true; } // settings)).warnings) [
      {
        package = pkgs.stt // {
          cudaSupport = false;
        };
      }
      {
        package = pkgs.stt // {
          cudaSupport = true;
        };
      }
      {
        package = pkgs.stt // {
          cudaSupport = false;
        };
        device = "cpu";
      }
    ];
    expected = [
      1
      0
      0
    ];
  };

  testWrongValues = {
    expr = map (settings: fails (service settings)) [
      { device = "tpu"; }
      { engine = "siri"; }
      { port = 70000; }
      { endOfTurn = 0; }
      { endOfTurn = "1.5"; }
      { maxSessions = 0; }
      { drainTimeout = -1; }
      { logFormat = "xml"; }
      { nonsense = 1; }
      { }
    ];
    expected = [
      true
      true
      true
      true
      true
      true
      true
      true
      true
      false
    ];
  };
}
