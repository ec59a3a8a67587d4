package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/rs/cors"
)

// guard refuses requests under foreign names, and from pages of foreign origins, on every route, WebSocket or not, and says to
// browsers what pages of the listed origins may do.
func (g *Gateway) guard(next http.Handler) http.Handler {
	allow := cors.New(cors.Options{
		AllowOriginVaryRequestFunc: func(r *http.Request, _ string) (bool, []string) { return g.originAllowed(r), nil },
		AllowedMethods:             []string{http.MethodGet, http.MethodPost},
		AllowedHeaders:             []string{"Authorization", "Content-Type", "Last-Event-ID"},
		ExposedHeaders:             []string{"Retry-After"},
		AllowCredentials:           g.cfg.AllowCredentials,
		MaxAge:                     600,
	}).Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.hostAllowed(r) {
			g.refuse(w, r, &hostNotAllowed)
			return
		}
		if !g.originAllowed(r) {
			g.refuse(w, r, &originNotAllowed)
			return
		}
		allow.ServeHTTP(w, r)
	})
}

func (g *Gateway) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	if u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return true
	}
	return slices.ContainsFunc(g.cfg.Origins, func(pattern string) bool { return originMatches(pattern, u) })
}

// hostAllowed says whether a request may ask for this host.
func (g *Gateway) hostAllowed(r *http.Request) bool {
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return true
	}
	host := hostname(r.Host)
	if len(g.cfg.Hosts) > 0 {
		return slices.ContainsFunc(g.cfg.Hosts, func(pattern string) bool {
			ok, err := path.Match(strings.ToLower(pattern), host)
			return ok && err == nil
		})
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	tcp, isTCP := local.(*net.TCPAddr)
	if !isTCP || !tcp.IP.IsLoopback() || host == "" {
		return true
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// hostname returns the name of a Host header, in lower case, without port, brackets and the dot that it may end in.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func checkHosts(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("gateway: %q is not a pattern of hosts: %w", p, path.ErrBadPattern)
		}
		if _, err := netip.ParseAddr(p); err != nil && strings.ContainsAny(p, "/:") {
			return fmt.Errorf("gateway: %q is not a pattern of hosts: it has neither scheme nor port", p)
		}
	}
	return nil
}

func checkOrigins(patterns []string, credentials bool) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("gateway: %q is not a pattern of origins: %w", p, path.ErrBadPattern)
		}
		_, host, hasScheme := strings.Cut(p, "://")
		if !hasScheme {
			host = p
		}
		if strings.Contains(host, "/") {
			return fmt.Errorf("gateway: %q matches no origin: an origin has no path, and no slash behind its host", p)
		}
		if credentials && (originMatches(p, anybody) || originMatches(p, anybodySecure)) {
			return fmt.Errorf("gateway: with AllowCredentials %q lets any page act as its visitor; name the sites", p)
		}
	}
	return nil
}

// Origins that only a pattern matches that matches all.
var (
	anybody       = &url.URL{Scheme: "http", Host: "q7x.anybody.invalid"}
	anybodySecure = &url.URL{Scheme: "https", Host: anybody.Host}
)

// originMatches judges by the rules of coder/websocket.
func originMatches(pattern string, origin *url.URL) bool {
	target := origin.Host
	if strings.Contains(pattern, "://") {
		target = origin.Scheme + "://" + origin.Host
	}
	ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(target))
	return ok && err == nil && (origin.Host != "" || pattern == "*")
}

// addressOf is the network that a request counts for: an IPv4 address, or the /64 that one IPv6 client commonly has.
func (g *Gateway) addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(forwarded) - 1; i >= 0 && g.isTrustedProxy(addr); i-- {
		before, err := netip.ParseAddr(strings.TrimSpace(forwarded[i]))
		if err != nil {
			break
		}
		addr = before
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().String()
	}
	return addr.String()
}

func (g *Gateway) isTrustedProxy(addr netip.Addr) bool {
	return slices.ContainsFunc(g.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}
