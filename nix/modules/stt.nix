# services.stt: `stt serve` as a hardened systemd service. The unit for other systems is packaging/systemd/stt.service;
# nix/tests/run holds the two against each other.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.stt;
  cuda = cfg.device == "cuda";
  spoken = cfg.wyoming.port != null;
  cache = "/var/cache/stt";

  # systemd's own quoting: % and $ would be expanded (utils.escapeSystemdExecArgs, which only NixOS hands to modules).
  quote =
    argument: lib.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON (toString argument));
  # toString would make 1.5 a 1.500000
  decimal = number: if number == null then null else builtins.toJSON number;
  # one `--option value` unless it is null: then the server's own default holds
  option =
    name: value:
    lib.optionals (value != null) [
      "--${name}"
      value
    ];
  # What systemd copies to where this service alone can read it. %d is that directory; it is not quoted away.
  credential = name: path: lib.optional (path != null) "${name}:${path}";
  given =
    name: file: path:
    lib.optionalString (path != null) " --${name} %d/${file}";

  secret =
    lib.types.addCheck types.str (path: lib.hasPrefix "/" path && !lib.hasPrefix builtins.storeDir path)
    // {
      description = "absolute path of a file outside the Nix store, which everyone can read";
    };
  positive = types.addCheck types.number (seconds: seconds > 0) // {
    description = "seconds above 0";
  };
in
{
  imports =
    map (name: lib.mkRenamedOptionModule [ "services" "stt-server" name ] [ "services" "stt" name ])
      [
        "enable"
        "port"
        "host"
        "device"
        "package"
        "openFirewall"
      ];

  options.services.stt = {
    enable = lib.mkEnableOption "the live speech-to-text server";

    package = mkOption {
      type = types.package;
      # nixpkgs has had another program named stt: only the overlay's is meant
      default =
        if pkgs ? stt-server then pkgs.stt-server else (pkgs.extend (import ../overlay.nix)).stt-server;
      defaultText = lib.literalExpression "pkgs.stt";
      description = "The package; for a GPU it comes from a package set with `nixpkgs.config.cudaSupport = true`.";
    };

    host = mkOption {
      type = types.str;
      default = "0.0.0.0";
      example = "127.0.0.1";
      description = "Address to listen on.";
    };

    port = mkOption {
      type = types.port;
      default = 15751;
      description = "TCP port to listen on.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Open the port in the firewall, and Wyoming's where it is spoken.";
    };

    wyoming = {
      port = mkOption {
        type = types.nullOr types.port;
        default = null;
        example = 10300;
        description = "TCP port to speak Wyoming at (Home Assistant). It has no keys. `null`: it is not spoken.";
      };
      host = mkOption {
        type = types.str;
        default = "127.0.0.1";
        example = "0.0.0.0";
        description = "Address to speak it at; whoever reaches it may use the server.";
      };
      endsTurns = mkOption {
        type = types.bool;
        default = false;
        description = "End utterances by `endOfTurn` of silence instead of waiting for the client to end them.";
      };
      announce = mkOption {
        type = types.bool;
        default = false;
        description = "Let Home Assistant find the server by itself (zeroconf).";
      };
    };

    device = mkOption {
      type = types.enum [
        "cuda"
        "cpu"
      ];
      default = "cuda";
      description = "Where the engine runs. With cuda the service may use NVIDIA's device nodes, else none.";
    };

    engine = mkOption {
      type = types.enum [
        "auto"
        "whisper"
        "canary-qwen"
      ];
      default = "auto";
      description = "Speech recognition engine; auto: canary-qwen where a GPU and its weights are there, else whisper.";
    };

    model = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "Systran/faster-whisper-small";
      description = ''
        Weights: a directory, or a hub id, which is downloaded once to ${cache}. `null`: the engine's own choice.
        A directory must be readable for everyone; /home and /root are hidden from the service.
      '';
    };

    apiKeyFile = mkOption {
      type = types.nullOr secret;
      default = null;
      example = "/run/secrets/stt-api-keys";
      description = ''
        File with an API key on each line; clients must send one. It is handed over as a systemd credential: root alone
        has to be able to read it. `null`: everyone who reaches the port may use the server.
      '';
    };

    maxSessions = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = 20;
      description = "Sessions at once; more are refused with 503. `null`: the server's default, 100.";
    };

    endOfTurn = mkOption {
      type = types.nullOr positive;
      default = null;
      example = 0.8;
      description = "Seconds of silence that end a turn. `null`: the server's default, 1.5.";
    };

    drainTimeout = mkOption {
      type = types.addCheck types.number (seconds: seconds >= 0) // {
        description = "seconds, 0 or more";
      };
      default = 20;
      description = "Seconds that running turns have to get their finals when the service stops.";
    };

    allowedOrigins = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "https://example.com" ];
      description = "Web pages that may connect beside those of the host and port of this server.";
    };

    tls = {
      certificate = mkOption {
        type = types.nullOr secret;
        default = null;
        example = "/var/lib/acme/example.com/fullchain.pem";
        description = "Certificate chain (PEM), handed over as a systemd credential; with `tls.key`, serve wss://.";
      };
      key = mkOption {
        type = types.nullOr secret;
        default = null;
        example = "/var/lib/acme/example.com/key.pem";
        description = "Its private key (PEM), handed over as a systemd credential.";
      };
    };

    logFormat = mkOption {
      type = types.enum [
        "text"
        "json"
      ];
      default = "text";
      description = "Log lines for people or for programs.";
    };

    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--language=de" ];
      description = "More options of `stt serve`.";
    };

    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        HF_ENDPOINT = "https://hub.example.com";
      };
      description = "More environment variables. They can be read by everyone: keys and tokens do not belong here.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = (cfg.tls.certificate == null) == (cfg.tls.key == null);
        message = "services.stt.tls: certificate and key belong together, and only one of them is set.";
      }
      {
        assertion = spoken || !(cfg.wyoming.endsTurns || cfg.wyoming.announce);
        message = "services.stt.wyoming: endsTurns and announce want a port.";
      }
    ];
    warnings = lib.optional (cuda && !(cfg.package.cudaSupport or true)) ''
      services.stt.device is "cuda", but services.stt.package was built without CUDA. Set
      `nixpkgs.config.cudaSupport = true;`, or `services.stt.device = "cpu";`.
    '';

    networking.firewall = lib.mkIf cfg.openFirewall {
      allowedTCPPorts = [ cfg.port ] ++ lib.optional spoken cfg.wyoming.port;
      allowedUDPPorts = lib.optional cfg.wyoming.announce 5353;
    };

    systemd.services.stt = {
      description = "Live speech-to-text server";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      # device numbers are looked up when the service starts: the driver must be loaded by then
      after = [ "network-online.target" ] ++ lib.optional cuda "systemd-modules-load.service";

      environment = {
        HOME = cache;
        XDG_CACHE_HOME = cache;
        HF_HOME = "${cache}/huggingface";
        # onnxruntime would tell its makers how it is used
        ORT_DISABLE_TELEMETRY = "1";
      }
      // cfg.environment;

      serviceConfig = {
        ExecStart =
          lib.concatMapStringsSep " " quote (
            [
              (lib.getExe cfg.package)
              "serve"
              "--host"
              cfg.host
              "--port"
              cfg.port
              "--engine"
              cfg.engine
              "--device"
              cfg.device
              "--drain-timeout"
              (decimal cfg.drainTimeout)
              "--log-format"
              cfg.logFormat
            ]
            ++ option "model" cfg.model
            ++ option "max-sessions" cfg.maxSessions
            ++ option "end-of-turn" (decimal cfg.endOfTurn)
            ++ lib.concatMap (option "allowed-origin") cfg.allowedOrigins
            ++ option "wyoming" (if spoken then "${cfg.wyoming.host}:${toString cfg.wyoming.port}" else null)
            ++ lib.optional cfg.wyoming.endsTurns "--wyoming-ends-turns"
            ++ lib.optional cfg.wyoming.announce "--wyoming-announce"
          )
          + given "api-key-file" "api-keys" cfg.apiKeyFile
          + given "tls-cert" "tls-cert" cfg.tls.certificate
          + given "tls-key" "tls-key" cfg.tls.key
          + lib.concatMapStrings (argument: " ${quote argument}") cfg.extraArgs;

        # Ready once the engine is warm. While weights load or come over the network the server asks for more time.
        Type = "notify";
        TimeoutStartSec = 60;
        # The event loop reports every 10 s; when it hangs, Python's stack goes to the journal and the service starts anew.
        WatchdogSec = 30;
        # SIGTERM drains: running turns get their finals, then connections and the engine have 15 s to end.
        TimeoutStopSec = builtins.ceil cfg.drainTimeout + 15;
        KillMode = "mixed";
        Restart = "on-failure";
        RestartSec = 5;
        RestartPreventExitStatus = 2; # a wrong option does not get right by trying again

        DynamicUser = true;
        User = "stt"; # by name, so that a second instance may use the same weights
        # weights, 5 GB for canary-qwen; all that the service may write
        CacheDirectory = "stt";
        CacheDirectoryMode = "0700";
        WorkingDirectory = cache;
        LoadCredential =
          credential "api-keys" cfg.apiKeyFile
          ++ credential "tls-cert" cfg.tls.certificate
          ++ credential "tls-key" cfg.tls.key;
        LimitNOFILE = 65536;
        LimitCORE = 0; # what people say is in memory
        UMask = "0077";

        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = !cuda;
        DevicePolicy = "closed";
        # the driver's names differ between its versions
        DeviceAllow = lib.optionals cuda [
          "char-nvidia rw"
          "char-nvidia-frontend rw"
          "char-nvidiactl rw"
          "char-nvidia-uvm rw"
          "char-nvidia-caps rw"
        ];
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
        # not "pid": without /proc/cpuinfo onnxruntime does not know what this CPU can do
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
        ]
        ++ lib.optional cfg.wyoming.announce "AF_NETLINK"; # which addresses there are
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        # CUDA binds memory and threads to the node that the GPU is at
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
        ]
        ++ lib.optional (!cuda) "~@resources";
        SystemCallErrorNumber = "EPERM";
        # Not MemoryDenyWriteExecute: the engines compile their kernels for this very CPU. oneDNN says "could not create a
        # primitive" with it, numba "cannot allocate executable memory".
      };
    };
  };
}
