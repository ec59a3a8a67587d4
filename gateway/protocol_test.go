package gateway_test

import (
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// Every frame counts, of whatever kind: otherwise pings or empty parts of a message would be free.
func TestFloodsOfEveryKind(t *testing.T) {
	for name, frame := range map[string][]byte{
		"pings":               {0x89, 0x80, 0, 0, 0, 0},
		"pongs":               {0x8a, 0x81, 0, 0, 0, 0, 'x'},
		"empty continuations": {0x00, 0x80, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, gateway.Config{Topics: []string{"*"}, MaxRate: 1}) // and ten at once
			ws := f.dialRaw("/ws", 4096)
			var sent []byte
			if name == "empty continuations" {
				sent = append(sent, 0x01, 0x80, 0, 0, 0, 0) // of a text that has begun
			}
			for range 50 {
				sent = append(sent, frame...)
			}
			_, err := ws.conn.Write(sent)
			require.NoError(t, err)
			require.Equal(t, gateway.CodeFlood, ws.code(nil))
			eventually(t, "it has left", func() bool { return f.gw.Stats().WebSockets == 0 })
			require.EqualValues(t, 1, f.gw.Stats().Closed["flood"])
		})
	}
	t.Run("a message in parts", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: []string{"*"}, MaxRate: 1})
		ws := f.dialRaw("/ws", 4096)
		for i, part := range []string{`{"op"`, `:"pi`, "", `ng"}`} { // 4 of the 10
			head := []byte{0x00, 0x80 | byte(len(part)), 0, 0, 0, 0}
			if i == 0 {
				head[0] = 0x01
			} else if i == 3 {
				head[0] = 0x80
			}
			for _, b := range append(head, part...) { // a byte at a time
				_, err := ws.conn.Write([]byte{b})
				require.NoError(t, err)
			}
		}
		data, err := ws.readText(make([]byte, 100))
		require.NoError(t, err)
		require.Equal(t, `{"op":"pong"}`, string(data))
	})
}

// Who breaks the protocol is told how.
func TestProtocolErrorsHaveTheirCodes(t *testing.T) {
	for _, test := range []struct {
		name  string
		code  int
		frame string
	}{
		{"unmasked frame", 1002, "\x81\x02hi"},
		{"unmasked ping", 1002, "\x89\x00"},
		{"reserved bits", 1002, "\xf1\x80\x00\x00\x00\x00"},
		{"unknown opcode", 1002, "\x83\x80\x00\x00\x00\x00"},
		{"continuation of nothing", 1002, "\x80\x80\x00\x00\x00\x00"},
		{"text that is not UTF-8", 1007, "\x81\x82\x00\x00\x00\x00\xc3\x28"},
		{"text in parts that is not UTF-8", 1007, "\x01\x81\x00\x00\x00\x00\xc3\x80\x81\x00\x00\x00\x00\x28"},
	} {
		for _, path := range []string{"/ws", "/listen/t"} {
			f := newFixture(t, gateway.Config{Topics: []string{"*"}})
			ws := f.dialRaw(path, 4096)
			_, err := ws.conn.Write([]byte(test.frame))
			require.NoError(t, err)
			require.Equal(t, test.code, ws.code(nil), "%s on %s", test.name, path)
		}
	}
}

// Browsers fail where the server takes none of the subprotocols that they offer. One that carries a token is not repeated.
func TestSubprotocols(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	for _, test := range []struct {
		offered []string
		chosen  string
	}{
		{nil, ""},
		{[]string{"pghub"}, "pghub"},
		{[]string{"other", "pghub"}, "pghub"},
		{[]string{"v2.other", "other"}, "v2.other"},
		{[]string{"pghub.token.sesame", "pghub"}, "pghub"},
		{[]string{"pghub.token.sesame", "other"}, "other"},
		{[]string{"pghub.token.sesame"}, ""},
	} {
		for _, path := range []string{"/ws", "/listen/t"} {
			ws, resp, err := websocket.Dial(f.ctx(), f.url(path), &websocket.DialOptions{Subprotocols: test.offered})
			require.NoError(t, err)
			require.Equal(t, test.chosen, resp.Header.Get("Sec-WebSocket-Protocol"), "%v", test.offered)
			require.NoError(t, ws.CloseNow())
		}
	}
}

// Where a token may be.
func TestToken(t *testing.T) {
	for _, test := range []struct {
		url    string
		header http.Header
		token  string
	}{
		{"/ws", nil, ""},
		{"/ws?token=a%20b", nil, "a b"},
		{"/ws", http.Header{"Authorization": {"Bearer sesame"}}, "sesame"},
		{"/ws", http.Header{"Authorization": {"bearer sesame"}}, "sesame"},
		{"/ws", http.Header{"Authorization": {"BEARER  sesame "}}, "sesame"},
		{"/ws", http.Header{"Authorization": {"Basic sesame"}}, ""},
		{"/ws?token=other", http.Header{"Authorization": {"Bearer sesame"}}, "sesame"},
		{"/ws?token=other", http.Header{"Authorization": {"Basic sesame"}}, "other"},
		{"/ws", http.Header{"Sec-Websocket-Protocol": {"pghub, pghub.token.sesame"}}, "sesame"},
		{"/ws", http.Header{"Sec-Websocket-Protocol": {"pghub", "pghub.token.a%2Fb%20c"}}, "a/b c"},
		{"/ws", http.Header{"Sec-Websocket-Protocol": {"pghub.token.%zz"}}, ""},
		{"/ws?token=other", http.Header{"Sec-Websocket-Protocol": {"pghub.token.sesame"}}, "sesame"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://h"+test.url, nil)
		require.NoError(t, err)
		r.Header = test.header
		require.Equal(t, test.token, gateway.Token(r), "%s %v", test.url, test.header)
	}
}
