package main

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
)

// configure reads the flags.
func (s *server) configure(cmd *cli.Command) (err error) {
	if s.dsn, err = database(cmd); err != nil {
		return err
	}
	s.name = cmd.String("name")
	s.address = cmd.String("listen")
	if s.base, err = basePath(cmd.String("base-path")); err != nil {
		return err
	}
	s.cert, s.key = cmd.String("tls-cert"), cmd.String("tls-key")
	if (s.cert == "") != (s.key == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if s.clientCA = cmd.String("tls-client-ca"); s.clientCA != "" && s.cert == "" {
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key")
	}
	if s.grace, err = period(cmd, "grace", 10*time.Second); err != nil {
		return err
	}
	if s.reconnectMax, err = period(cmd, "reconnect-max", 5*time.Second); err != nil {
		return err
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
		Hosts: cmd.StringSlice("hosts"),
		Codec: s.codec, Logger: s.logger, NoViewer: cmd.Bool("no-viewer"),
		MaxClients: cmd.Int("max-clients"), MaxClientsPerAddress: cmd.Int("max-clients-per-address"),
		MaxTopics: cmd.Int("max-topics"), MaxTopicsPerAddress: cmd.Int("max-topics-per-address"), MaxTopicsTotal: cmd.Int("max-topics-total"),
		MaxMessage: cmd.Int("max-message"), MaxRate: cmd.Int("max-rate"), MaxPending: cmd.Int("max-pending"), MaxPendingTotal: cmd.Int("max-pending-total"),
		SlowTimeout: cmd.Duration("slow-timeout"), WriteTimeout: cmd.Duration("write-timeout"),
		PingInterval: cmd.Duration("ping-interval"), PingTimeout: cmd.Duration("ping-timeout"),
		Heartbeat: cmd.Duration("heartbeat"), ReadTimeout: cmd.Duration("read-timeout"),
	}
	s.gateway.Compress = cmd.Bool("compress")
	if cmd.Bool("access-log") {
		s.gateway.AccessLog = s.logger
	}
	s.streamTopics = cmd.StringSlice("stream")
	s.gateway.HistoryEvents, s.gateway.HistoryBytes, s.gateway.HistoryLinger = cmd.Int("history-events"), cmd.Int("history-bytes"), cmd.Duration("history-linger")
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
	if cmd.IsSet("token") {
		token := cmd.String("token")
		if strings.TrimSpace(token) == "" {
			return errors.New("--token is empty, which would let everybody in; leave it out (and PGHUB_TOKEN) if that is what you want")
		}
		s.gateway.Authorize = requireToken(token)
	}
	s.tokens, err = readTokens(cmd)
	return err
}

// period reads a flag whose zero is a default.
func period(cmd *cli.Command, name string, zero time.Duration) (time.Duration, error) {
	switch d := cmd.Duration(name); {
	case d < 0:
		return 0, fmt.Errorf("--%s is %v: a time is not negative", name, d)
	case d > 0:
		return d, nil
	}
	return zero, nil
}

// basePath reads "/", "prefix" or "/a/prefix/".
func basePath(text string) (string, error) {
	base := "/" + strings.Trim(text, "/")
	if path.Clean(base) != base || (&url.URL{Path: base}).EscapedPath() != base {
		return "", fmt.Errorf("--base-path is %q: it has letters, digits and -._~ between slashes", text)
	}
	return base, nil
}

// network reads 10.0.0.0/8, or an address for itself.
func network(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// requireToken lets in who shows the token: see gateway.Token.
func requireToken(token string) func(*http.Request, gateway.Access) error {
	return func(r *http.Request, _ gateway.Access) error {
		if subtle.ConstantTimeCompare([]byte(gateway.Token(r)), []byte(token)) != 1 {
			return gateway.Refuse(http.StatusUnauthorized, "a valid token is required")
		}
		return nil
	}
}
