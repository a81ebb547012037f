# Stands in for nixpkgs' lib where nixpkgs cannot be had: the functions that this project uses, as far as it uses them,
# written to what the nixpkgs manual says of them. `nix flake check` makes the same assertions with the real one.
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatStringsSep
    elem
    filter
    foldl'
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isString
    length
    listToAttrs
    map
    mapAttrs
    stringLength
    substring
    tail
    ;
in
rec {
  inherit (builtins) concatMap replaceStrings;
  genAttrs =
    names: f:
    listToAttrs (
      map (name: {
        inherit name;
        value = f name;
      }) names
    );
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: values: if condition then values else { };
  optionalString = condition: text: if condition then text else "";
  concatMapStrings = f: list: concatStringsSep "" (map f list);
  concatMapStringsSep =
    separator: f: list:
    concatStringsSep separator (map f list);
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  getAttrFromPath = path: value: foldl' (value: name: value.${name}) value path;
  hasAttrByPath =
    path: value:
    path == [ ]
    || isAttrs value && value ? ${head path} && hasAttrByPath (tail path) value.${head path};
  setAttrByPath =
    path: value: if path == [ ] then value else { ${head path} = setAttrByPath (tail path) value; };
  getExe = package: "${package}/bin/${package.meta.mainProgram}";
  showOption = concatStringsSep ".";
  generators.toPretty = _: builtins.toJSON;
  runTests =
    tests:
    concatLists (
      map (
        name:
        optional (tests.${name}.expr != tests.${name}.expected) {
          inherit name;
          inherit (tests.${name}) expected;
          result = tests.${name}.expr;
        }
      ) (filter (hasPrefix "test") (attrNames tests))
    );

  licenses = genAttrs [ "mit" "asl20" ] (name: {
    inherit name;
  });
  platforms = {
    linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    darwin = [ "aarch64-darwin" ];
  };

  # A set of files is the list of its paths, which must exist; a source is its root.
  fileset = {
    unions =
      paths:
      concatLists (
        map (
          path:
          if isList path then
            path
          else if builtins.pathExists path then
            [ path ]
          else
            throw "lib.fileset.unions: ${toString path} does not exist"
        ) paths
      );
    toSource =
      { root, fileset }:
      builtins.seq (length fileset) {
        outPath = toString root;
        inherit fileset;
      };
  };

  # --- the module system

  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
  mkOption = attributes: attributes // { _type = "option"; };
  isOption = value: value._type or "" == "option";
  mkEnableOption =
    name:
    mkOption {
      type = types.bool;
      default = false;
      description = "Whether to enable ${name}.";
    };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;

  types =
    let
      type = description: check: merge: {
        _type = "option-type";
        inherit description check merge;
      };
      single =
        where: values:
        if length values == 1 then head values else throw "The option `${where}' has several values.";
      simple = description: check: type description check single;
      any = _: true;
      number = simple "number" (value: isInt value || isFloat value);
    in
    {
      inherit number;
      bool = simple "boolean" isBool;
      str = simple "string" isString;
      int = simple "integer" isInt;
      port = simple "port" (value: isInt value && value >= 0 && value <= 65535);
      ints.positive = simple "positive integer" (value: isInt value && value > 0);
      package = simple "package" (value: isAttrs value && value.type or "" == "derivation");
      enum = values: simple "one of ${builtins.toJSON values}" (value: elem value values);
      unspecified = simple "unspecified" any;
      raw = simple "raw" any;
      nullOr =
        inner:
        type "null or ${inner.description}" (value: value == null || inner.check value) (
          where: values: if all (value: value == null) values then null else inner.merge where values
        );
      listOf =
        inner:
        type "list of ${inner.description}" (value: isList value && all inner.check value) (_: concatLists);
      attrsOf =
        inner:
        type "attribute set of ${inner.description}" isAttrs (
          where: values:
          let
            names = attrNames (foldl' (all: value: all // value) { } values);
          in
          listToAttrs (
            concatLists (
              map (
                name:
                let
                  given = settle "${where}.${name}" inner (
                    concatLists (map (value: optional (value ? ${name}) value.${name}) values)
                  );
                in
                optional (given != null) {
                  inherit name;
                  value = given.value;
                }
              ) names
            )
          )
        );
      addCheck = inner: check: inner // { check = value: inner.check value && check value; };
    };

  # what is left of a definition once its conditions are decided: [ { priority; value; } ]
  discharge =
    priority: value:
    {
      "if" = if value.condition then discharge priority value.content else [ ];
      merge = concatLists (map (discharge priority) value.contents);
      override = discharge value.priority value.content;
    }
    .${value._type or ""} or [ { inherit priority value; } ];

  settle =
    where: type: definitions:
    let
      given = concatLists (map (discharge 100) definitions);
      best = foldl' (
        least: definition: if definition.priority < least then definition.priority else least
      ) 9999 given;
      values = map (definition: definition.value) (
        filter (definition: definition.priority == best) given
      );
      wrong = filter (value: !type.check value) values;
    in
    if given == [ ] then
      null
    else if wrong != [ ] then
      throw "A definition for option `${where}' is not of type `${type.description}': ${builtins.toJSON (head wrong)}"
    else
      { value = type.merge where values; };

  # Conditions around a set of definitions are pushed down, so that they may depend on what they do not define.
  pushDown =
    config:
    {
      merge = concatLists (map pushDown config.contents);
      "if" = map (mapAttrs (_: mkIf config.condition)) (pushDown config.content);
      override = map (mapAttrs (_: mkOverride config.priority)) (pushDown config.content);
    }
    .${config._type or ""} or [ config ];

  evalModules =
    {
      modules,
      specialArgs ? { },
    }:
    let
      load =
        module:
        let
          loaded = if isAttrs module || isFunction module then module else import module;
          called =
            if isFunction loaded then loaded ({ inherit lib options config; } // specialArgs) else loaded;
          plain = !(called ? config || called ? options);
        in
        concatLists (map load (called.imports or [ ]))
        ++ [
          {
            options = called.options or { };
            config = if plain then removeAttrs called [ "imports" ] else called.config or { };
          }
        ];
      loaded = concatLists (map load modules);
      declarations = map (module: module.options) loaded;
      definitions = concatLists (map (module: pushDown module.config) loaded);

      names = sets: attrNames (foldl' (all: set: all // set) { } sets);
      below = name: sets: concatLists (map (set: optional (set ? ${name}) set.${name}) sets);

      # level by level: options with their values
      build =
        where: declarations: definitions:
        genAttrs (names declarations) (
          name:
          let
            here = where ++ [ name ];
            declared = below name declarations;
            defined = below name definitions;
          in
          if isOption (head declared) then
            evaluate (showOption here) declared defined
          else
            build here declared (concatLists (map pushDown defined))
        );
      evaluate =
        where: declared: defined:
        let
          option = head declared;
          default = optional (option ? default) (mkOverride 1500 option.default);
          settled = settle where (option.type or types.unspecified) (default ++ defined);
          value =
            if settled == null then throw "The option `${where}' is used but not defined." else settled.value;
          given = concatLists (map (discharge 100) defined);
        in
        if length declared > 1 then
          throw "The option `${where}' is declared twice."
        else
          option
          // {
            value = (option.apply or (value: value)) value;
            isDefined = given != [ ];
            definitions = map (definition: definition.value) given;
          };
      # definitions of what nobody declared
      strange =
        where: declarations: definitions:
        concatLists (
          map (
            name:
            let
              here = where ++ [ name ];
              declared = below name declarations;
            in
            if declared == [ ] then
              [ (showOption here) ]
            else if isOption (head declared) then
              [ ]
            else
              strange here declared (concatLists (map pushDown (below name definitions)))
          ) (names definitions)
        );
      values = set: mapAttrs (_: option: if isOption option then option.value else values option) set;

      lib = import ./lib.nix;
      options = build [ ] declarations definitions;
      unknown = strange [ ] declarations definitions;
      config =
        if unknown == [ ] then values options else throw "The option `${head unknown}' does not exist.";
    in
    {
      inherit options config;
    };

  mkRenamedOptionModule =
    from: to:
    { config, options, ... }:
    let
      old = getAttrFromPath from options;
    in
    {
      options = setAttrByPath from (mkOption {
        type = (getAttrFromPath to options).type;
        description = "Alias of ${showOption to}.";
        apply = _: getAttrFromPath to config;
      });
      config = mkMerge [
        {
          warnings = optional old.isDefined "The option `${showOption from}' has been renamed to `${showOption to}'.";
        }
        (setAttrByPath to (mkIf old.isDefined (mkMerge old.definitions)))
      ];
    };
}
