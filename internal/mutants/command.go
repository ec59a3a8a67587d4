package main

var commandArea = area{
	name:     "command",
	folder:   "cmd/pghub",
	packages: []string{"cmd/pghub"},
	mutants: []mutant{
		// Flags.
		sampled(one("a flag read from another's name", "serve.go", `MaxTopicsTotal: cmd.Int("max-topics-total")`, `MaxTopicsTotal: cmd.Int("max-topics")`, "TestEveryFlagReachesItsPlace")),
		one("one limit for the other", "serve.go", `MaxClients: cmd.Int("max-clients"), MaxClientsPerAddress: cmd.Int("max-clients-per-address")`, `MaxClients: cmd.Int("max-clients-per-address"), MaxClientsPerAddress: cmd.Int("max-clients")`, "TestEveryFlagReachesItsPlace"),
		one("one timeout for the other", "serve.go", `PingTimeout: cmd.Duration("ping-timeout")`, `PingTimeout: cmd.Duration("ping-interval")`, "TestEveryFlagReachesItsPlace"),
		one("a timeout that is not passed on", "serve.go", `SlowTimeout: cmd.Duration("slow-timeout"), `, "", "TestEveryFlagReachesItsPlace"),
		one("a rate that is not passed on", "serve.go", `MaxRate: cmd.Int("max-rate"), `, "", "TestEveryFlagReachesItsPlace"),
		one("publishing open to who may listen", "serve.go", `Publish: cmd.StringSlice("publish")`, `Publish: cmd.StringSlice("topics")`, "TestEveryFlagReachesItsPlace TestDefaults"),
		one("credentials for everybody", "serve.go", `AllowCredentials: cmd.Bool("allow-credentials")`, `AllowCredentials: true`, "TestDefaults"),
		one("a page that cannot be left out", "serve.go", `, NoViewer: cmd.Bool("no-viewer")`, "", "TestEveryFlagReachesItsPlace"),
		one("a certificate for a key", "serve.go", `s.cert, s.key = cmd.String("tls-cert"), cmd.String("tls-key")`, `s.key, s.cert = cmd.String("tls-cert"), cmd.String("tls-key")`, "TestEveryFlagReachesItsPlace TestTLS"),
		one("half of TLS", "serve.go", `(s.cert == "") != (s.key == "")`, `s.cert != "" && s.key == ""`, "TestMistakesAreNamed"),
		one("another codec than the hub's", "serve.go", "\t\tCodec: s.codec, Logger", "\t\tCodec: pghub.KeyValueCodec{}, Logger", "TestEveryFlagReachesItsPlace"),
		one("codecs confused", "serve.go", "\t\ts.codec = pghub.JSONCodec{}\n", "\t\ts.codec = pghub.RawCodec{}\n", "TestEveryFlagReachesItsPlace"),
		one("a codec that nobody knows", "serve.go", "\t\treturn fmt.Errorf(\"--codec is keyvalue or json, not %q\", cmd.String(\"codec\"))\n", "\t\ts.codec = pghub.KeyValueCodec{}\n", "TestMistakesAreNamed"),
		one("a path with two slashes", "serve.go", `"/"+strings.Trim(cmd.String("base-path"), "/")`, `"/"+strings.TrimLeft(cmd.String("base-path"), "/")`, "TestEveryFlagReachesItsPlace TestServe"),
		one("a proxy that is a whole network", "serve.go", "netip.PrefixFrom(addr, addr.BitLen())", "netip.PrefixFrom(addr, 8)", "TestEveryFlagReachesItsPlace"),
		one("no topic and no complaint", "serve.go", "len(s.gateway.Topics)+len(s.gateway.Publish) == 0", "false", "TestMistakesAreNamed"),
		one("a grace time of nothing", "serve.go", "s.grace <= 0", "s.grace < 0", "TestDefaults"),
		one("words that are taken for flags", "serve.go", "if cmd.Args().Present() {", "if false {", "TestMistakesAreNamed"),
		one("a variable of another name", "config.go", `strings.ReplaceAll(name, "-", "_")`, `strings.ReplaceAll(name, "-", "")`, "TestEveryFlagHasItsVariable TestPrecedence"),
		one("the file before the environment", "config.go", "cli.NewValueSourceChain(append(chain, &fileValue{f, key})...)", "cli.NewValueSourceChain(append([]cli.ValueSource{&fileValue{f, key}}, chain...)...)", "TestPrecedence"),
		one("settings that nobody knows", "config.go", "if !slices.Contains(known, key) {", "if !slices.Contains(known, key) && key == \"\" {", "TestMistakesAreNamed"),
		one("a file that cannot be read and is passed over", "config.go", "\tif f.err != nil {\n\t\treturn f.err\n\t}\n", "", "TestMistakesAreNamed"),
		one("lists of the file in one piece", "config.go", `strings.Join(parts, ",")`, `strings.Join(parts, ";")`, "TestPrecedence"),
		one("any level of the log", "command.go", "\t\treturn nil, fmt.Errorf(\"--log-level", "\t\t_ = fmt.Errorf(\"--log-level", "TestMistakesAreNamed"),

		// The token.
		sampled(one("a token that is not asked for", "serve.go", "\tif token := cmd.String(\"token\"); token != \"\" {", "\tif token := cmd.String(\"name\"); token != \"\" {", "TestToken")),
		one("the beginning of a token is enough", "serve.go", "subtle.ConstantTimeCompare([]byte(shown), []byte(token)) != 1", "subtle.ConstantTimeCompare([]byte(shown), []byte(token)[:min(len(shown), len(token))]) != 1", "TestRequireToken"),
		one("any scheme of authorization", "serve.go", `strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")`, `strings.CutPrefix(strings.Replace(r.Header.Get("Authorization"), "Basic", "Bearer", 1), "Bearer ")`, "TestRequireToken"),
		one("a wrong header and a right query", "serve.go", "\t\tif !bearer {\n", "\t\tif !bearer || shown != token {\n", "TestRequireToken"),
		one("forbidden for unauthorized", "serve.go", "gateway.Refuse(http.StatusUnauthorized,", "gateway.Refuse(http.StatusForbidden,", "TestToken"),

		// A life.
		one("TLS left out", "server.go", "\tif s.cert != \"\" {\n", "\tif s.cert == \"?\" {\n", "TestTLS"),
		one("not under the base path", "server.go", "\tif s.base == \"/\" {\n", "\tif s.base != \"\" {\n", "TestServe"),
		one("clients take all of the grace time", "server.go", "context.WithTimeout(ctx, s.grace/2)", "context.WithCancel(ctx)", "TestServeEndsInItsGraceTimeWhateverClientsDo"),
		one("a hub that ends unnoticed", "server.go", "\tcase err = <-hubEnded:\n", "", "TestWrongPasswordEndsTheProgram"),
		one("a failure with code 0", "main.go", "\t\treturn 1\n", "\t\treturn 0\n", "TestMistakesAreNamed"),
		one("SIGTERM has its usual effect", "main.go", "syscall.SIGINT, syscall.SIGTERM)", "syscall.SIGINT)", "TestServe"),
		one("an end as soon as the database is away", "server.go", "hub.Run(context.WithoutCancel(ctx))", "hub.Start(ctx)", "TestServeStartsWhileTheDatabaseIsAway"),
	},
}
