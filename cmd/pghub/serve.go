package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v3"
)

// serveCommand is pghub serve.
func serveCommand(file *configFile, stderr io.Writer) *cli.Command {
	from := func(name string) cli.ValueSourceChain { return file.sources("serve." + name) }
	text := func(name, usage, value string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Value: value, Sources: from(name)}
	}
	const past = "What was before"
	const users = "Tokens a user"
	user := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Sources: from(name), Category: users}
	}
	list := func(name, usage string) cli.Flag {
		return &cli.StringSliceFlag{Name: name, Usage: usage, Sources: from(name)}
	}
	number := func(name, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, Usage: usage, Sources: from(name), Category: "Limits (a negative one is no limit)", HideDefault: true}
	}
	period := func(name, usage string) cli.Flag {
		return &cli.DurationFlag{Name: name, Usage: usage, Sources: from(name), Category: "Times", HideDefault: true}
	}
	on := func(name, usage string) cli.Flag {
		return &cli.BoolFlag{Name: name, Usage: usage, Sources: from(name)}
	}
	return &cli.Command{
		Name:  "serve",
		Usage: "events on WebSockets and Server-Sent Events, for browsers and others",
		Description: "Serves /listen/TOPIC, /ws, /events, /notify/TOPIC, /stats, /metrics, /healthz, /readyz, and a page at / to\n" +
			"look at events with. One connection listens for all clients. For a first look:\n\n" +
			"   pghub serve --database postgres://localhost/mydb --topics '*'\n\n" +
			"and open http://127.0.0.1:8080/. In patterns * stands for any characters and ? for one.",
		Flags: []cli.Flag{
			text("listen", "`ADDRESS` to serve on", "127.0.0.1:8080"),
			text("base-path", "`PATH` that all routes are under", "/"),
			list("topics", "`PATTERN`s of topics that clients may listen to, with commas between; '*' is all"),
			list("publish", "`PATTERN`s of topics that clients may publish to; none: POST /notify is off"),
			&cli.StringSliceFlag{Name: "stream", Usage: "`TOPIC`s of the durable stream, of --topics: who comes back gets what it has missed", Sources: from("stream"), Category: past},
			&cli.IntFlag{Name: "history-events", Usage: "of all other topics together that are remembered for who comes back (none)", Sources: from("history-events"), Category: past, HideDefault: true},
			&cli.IntFlag{Name: "history-bytes", Usage: "of these events at most (16777216)", Sources: from("history-bytes"), Category: past, HideDefault: true},
			&cli.DurationFlag{Name: "history-linger", Usage: "for which a topic without clients is remembered (5m)", Sources: from("history-linger"), Category: past, HideDefault: true},
			text("token", "a `SECRET` that clients must show, as Authorization: Bearer or as ?token=; better in PGHUB_TOKEN", ""),
			user("jwt-key", "`FILE` with the key of tokens a user (JWT): a public key as PEM (RS, PS, ES, EdDSA), or a secret (HS)"),
			user("jwt-jwks", "`URL` of the set of keys (JWKS) of such tokens, which is fetched again as they change"),
			user("jwt-issuer", "`ISSUER` that they must name"),
			user("jwt-audience", "`AUDIENCE` that they must name"),
			&cli.StringFlag{Name: "jwt-topics", Usage: "`CLAIM` with the patterns of topics that a user may listen to, of --topics", Value: "topics", Sources: from("jwt-topics"), Category: users},
			&cli.StringFlag{Name: "jwt-publish", Usage: "`CLAIM` with the patterns of topics that a user may publish to, of --publish", Value: "publish", Sources: from("jwt-publish"), Category: users},
			list("origins", "`PATTERN`s of other sites whose pages may connect, as app.example.com; '*' is any"),
			on("allow-credentials", "let pages of these sites send cookies"),
			list("hosts", "`NAME`s under which this server may be asked for, as app.example.com; none: any, but on a loopback address only loopback names"),
			list("trusted-proxies", "`NETWORK`s of reverse proxies, whose X-Forwarded-For is believed"),
			text("tls-cert", "`FILE` with the certificate, to serve HTTPS", ""),
			text("tls-key", "`FILE` with its key; both are read again when they change, and at SIGHUP", ""),
			text("tls-client-ca", "`FILE` with the authorities of certificates that clients must show; read at the start alone", ""),
			text("codec", "how payloads are decoded: keyvalue (as pghub sends) or json (the payload is the value)", "keyvalue"),
			text("name", "of the hub, in the application_name of its connection", ""),
			on("compress", "offer permessage-deflate to WebSockets"),
			on("access-log", "a line in the log for every request"),
			on("no-viewer", "leave out the page at /"),
			number("max-clients", "clients at once (10000)"),
			number("max-clients-per-address", "of these from one address (100)"),
			number("max-topics", "topics of one client (100)"),
			number("max-topics-per-address", "different topics of all clients of one address (1000)"),
			number("max-topics-total", "different topics of all clients (10000)"),
			number("max-message", "bytes of a message from a client (16384)"),
			number("max-rate", "frames a second from a client (20)"),
			number("max-pending", "bytes waiting for a client, and more in a burst (1048576)"),
			number("max-pending-total", "bytes of the bursts of all clients together (268435456)"),
			period("grace", "for an orderly end (10s)"),
			period("slow-timeout", "until a client that goes on losing events is closed (30s)"),
			period("read-timeout", "until the body of a request is there (10s)"),
			period("write-timeout", "until a client that reads nothing is cut off (15s)"),
			period("ping-interval", "between pings of WebSockets (30s)"),
			period("ping-timeout", "until the answer to a ping (15s)"),
			period("heartbeat", "between comments of event streams (15s)"),
			period("reconnect-max", "between attempts to reach a database that is away (5s)"),
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.Args().Present() {
				return fmt.Errorf("serve takes flags only, not %q", cmd.Args().First())
			}
			logger, err := newLogger(cmd, stderr)
			if err != nil {
				return err
			}
			s := server{logger: logger}
			if err := s.configure(cmd); err != nil {
				return err
			}
			for _, name := range unknownVariables(cmd.Root(), os.Environ()) {
				logger.Warn("no setting has this variable of the environment", "name", name)
			}
			return s.run(ctx)
		},
	}
}
