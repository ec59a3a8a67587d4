package gateway

import (
	"net/http"
	"net/url"
	"strings"
)

// The subprotocols of WebSockets that have a meaning here.
const (
	subprotocol      = "pghub"
	subprotocolToken = "pghub.token." // and a token, percent-encoded where it has to be
)

// Token returns the token that a request shows, for Config.Authorize: as Authorization: Bearer TOKEN; as a subprotocol
// pghub.token.TOKEN of a WebSocket, since a browser cannot set its headers, new WebSocket(url, ["pghub", "pghub.token." + token]);
// or as ?token=TOKEN, which ends up in histories and in the logs of proxies. "" is none.
func Token(r *http.Request) string {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(shown)
	}
	for _, name := range offered(r) {
		if shown, is := strings.CutPrefix(name, subprotocolToken); is {
			token, err := url.PathUnescape(shown)
			if err != nil {
				return ""
			}
			return token
		}
	}
	return r.URL.Query().Get("token")
}

// offered are the subprotocols that a client offers.
func offered(r *http.Request) (names []string) {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// chosen is the subprotocol that is taken: our own, else the first that is offered, since browsers fail if none is. One with a
// token is not repeated in the answer.
func chosen(r *http.Request) []string {
	var first []string
	for _, name := range offered(r) {
		switch {
		case name == subprotocol:
			return []string{subprotocol}
		case first == nil && !strings.HasPrefix(name, subprotocolToken):
			first = []string{name}
		}
	}
	return first
}
