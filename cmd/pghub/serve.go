package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
)

// serveCommand is pghub serve.
func serveCommand(file *configFile, stderr io.Writer) *cli.Command {
	from := func(name string) cli.ValueSourceChain { return file.sources("serve." + name) }
	text := func(name, usage, value string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Value: value, Sources: from(name)}
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
			text("token", "a `SECRET` that clients must show, as Authorization: Bearer or as ?token=; better in PGHUB_TOKEN", ""),
			list("origins", "`PATTERN`s of other sites whose pages may connect, as app.example.com; '*' is any"),
			on("allow-credentials", "let pages of these sites send cookies"),
			list("trusted-proxies", "`NETWORK`s of reverse proxies, whose X-Forwarded-For is believed"),
			text("tls-cert", "`FILE` with the certificate, to serve HTTPS", ""),
			text("tls-key", "`FILE` with its key", ""),
			text("codec", "how payloads are decoded: keyvalue (as pghub sends) or json (the payload is the value)", "keyvalue"),
			text("name", "of the hub, in the application_name of its connection", ""),
			on("no-viewer", "leave out the page at /"),
			number("max-clients", "clients at once (10000)"),
			number("max-clients-per-address", "of these from one address (100)"),
			number("max-topics", "topics of one client (100)"),
			number("max-topics-total", "different topics of all clients (10000)"),
			number("max-message", "bytes of a message from a client (16384)"),
			number("max-rate", "messages a second from a client (20)"),
			number("max-pending", "bytes waiting for a client (1048576)"),
			period("grace", "for an orderly end (10s)"),
			period("slow-timeout", "until a client that stays behind is closed (30s)"),
			period("write-timeout", "until a client that reads nothing is cut off (15s)"),
			period("ping-interval", "between pings of WebSockets (30s)"),
			period("ping-timeout", "until the answer to a ping (15s)"),
			period("heartbeat", "between comments of event streams (15s)"),
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
			return s.run(ctx)
		},
	}
}

// configure reads the flags.
func (s *server) configure(cmd *cli.Command) (err error) {
	if s.dsn, err = database(cmd); err != nil {
		return err
	}
	s.name = cmd.String("name")
	s.address, s.base = cmd.String("listen"), "/"+strings.Trim(cmd.String("base-path"), "/")
	s.cert, s.key = cmd.String("tls-cert"), cmd.String("tls-key")
	if (s.cert == "") != (s.key == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if s.grace = cmd.Duration("grace"); s.grace <= 0 {
		s.grace = 10 * time.Second
	}
	switch cmd.String("codec") {
	case "keyvalue":
		s.codec = pghub.KeyValueCodec{}
	case "json":
		s.codec = pghub.JSONCodec{}
	default:
		return fmt.Errorf("--codec is keyvalue or json, not %q", cmd.String("codec"))
	}
	s.gateway = gateway.Config{
		Topics: cmd.StringSlice("topics"), Publish: cmd.StringSlice("publish"),
		Origins: cmd.StringSlice("origins"), AllowCredentials: cmd.Bool("allow-credentials"),
		Codec: s.codec, Logger: s.logger, NoViewer: cmd.Bool("no-viewer"),
		MaxClients: cmd.Int("max-clients"), MaxClientsPerAddress: cmd.Int("max-clients-per-address"),
		MaxTopics: cmd.Int("max-topics"), MaxTopicsTotal: cmd.Int("max-topics-total"),
		MaxMessage: cmd.Int("max-message"), MaxRate: cmd.Int("max-rate"), MaxPending: cmd.Int("max-pending"),
		SlowTimeout: cmd.Duration("slow-timeout"), WriteTimeout: cmd.Duration("write-timeout"),
		PingInterval: cmd.Duration("ping-interval"), PingTimeout: cmd.Duration("ping-timeout"),
		Heartbeat: cmd.Duration("heartbeat"),
	}
	if len(s.gateway.Topics)+len(s.gateway.Publish) == 0 {
		return errors.New("no topic is open to clients: say --topics (or --publish), for example --topics 'chat_*,orders' or --topics '*'")
	}
	for _, text := range cmd.StringSlice("trusted-proxies") {
		prefix, err := network(text)
		if err != nil {
			return fmt.Errorf("--trusted-proxies: %w", err)
		}
		s.gateway.TrustedProxies = append(s.gateway.TrustedProxies, prefix)
	}
	if token := cmd.String("token"); token != "" {
		s.gateway.Authorize = requireToken(token)
	}
	return nil
}

// network reads 10.0.0.0/8, or an address for itself.
func network(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// requireToken lets in who shows the token. Browsers cannot set headers of WebSockets and EventSource, so it may be in the
// query too.
func requireToken(token string) func(*http.Request, gateway.Access) error {
	return func(r *http.Request, _ gateway.Access) error {
		shown, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !bearer {
			shown = r.URL.Query().Get("token")
		}
		if subtle.ConstantTimeCompare([]byte(shown), []byte(token)) != 1 {
			return gateway.Refuse(http.StatusUnauthorized, "a valid token is required")
		}
		return nil
	}
}
