# Two NixOS machines: one serves, the other talks to it through the firewall, with a key.
{ pkgs, module }:
pkgs.testers.runNixOSTest {
  name = "stt";

  nodes.server = {
    imports = [ module ];
    virtualisation.memorySize = 4096;
    virtualisation.cores = 2;
    # In a test it may lie in the store; on a machine in use it does not.
    environment.etc."stt-keys".text = "a-key\nanother-key\n";
    services.stt = {
      enable = true;
      device = "cpu";
      openFirewall = true;
      apiKeyFile = "/etc/stt-keys";
      maxSessions = 3;
    };
  };

  nodes.client.environment.systemPackages = [ pkgs.stt ];

  testScript = ''
    import json

    start_all()
    server.wait_for_unit("stt.service", timeout=300)  # Type=notify: the engine is warm
    ready = json.loads(server.succeed("curl --fail --silent http://localhost:15751/ready"))
    assert (ready["status"], ready["max_sessions"]) == ("ready", 3), ready

    with subtest("someone with a key is heard, one without is not"):
        client.wait_for_unit("multi-user.target")
        talk = "stt client --url ws://server:15751 ${../../examples/news.flac}"
        heard = client.succeed(f"STT_API_KEY=another-key {talk} --fast", timeout=300)
        assert "council" in heard.lower(), heard
        client.fail(f"STT_API_KEY=wrong {talk}", timeout=60)
        client.fail(talk, timeout=60)

    with subtest("the service cannot do what it need not"):
        pid = server.succeed("systemctl show --property MainPID --value stt").strip()
        assert server.succeed(f"stat --format %U /proc/{pid}").strip() != "root"
        assert "a-key" not in server.succeed(f"cat /proc/{pid}/cmdline /proc/{pid}/environ | tr '\\0' '\\n'")
        server.succeed("systemd-analyze security --threshold=20 stt.service")

    with subtest("a loop that hangs is ended by the watchdog, and the service comes back"):
        server.succeed(f"kill -STOP {pid}")
        server.wait_until_succeeds("systemctl show --property NRestarts --value stt | grep --quiet 1", timeout=120)
        server.wait_for_unit("stt.service", timeout=300)

    with subtest("the running turn gets its final when the service stops, and the exit is clean"):
        client.succeed(f"STT_API_KEY=a-key {talk} >heard 2>&1 & echo started")
        server.wait_until_succeeds(
            "curl --fail --silent http://localhost:15751/ready | grep --quiet '\"sessions\":1'", timeout=60
        )
        server.succeed("sleep 5; systemctl stop stt")
        assert server.succeed("systemctl show --property Result --value stt").strip() == "success"
        client.wait_until_succeeds("grep --quiet . heard", timeout=30)
  '';
}
