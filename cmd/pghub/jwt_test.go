package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

const secretKey = "a secret of more than 32 bytes, with a line break behind it"

func keyFile(t *testing.T, text []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

func publicPEM(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func signed(t *testing.T, method jwt.SigningMethod, key any, kid string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func inAnHour() int64 { return time.Now().Add(time.Hour).Unix() }

func asking(token string) *http.Request {
	r := httptest.NewRequest("GET", "/ws", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// Each kind of key takes tokens that are signed with it, and no others.
func TestKindsOfKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	rsaPEM := publicPEM(t, rsaKey.Public())
	ways := []struct {
		name   string
		method jwt.SigningMethod
		key    any
		file   []byte
	}{
		{"secret", jwt.SigningMethodHS256, []byte(secretKey), []byte(secretKey + "\n")},
		{"RSA", jwt.SigningMethodRS256, rsaKey, rsaPEM},
		{"RSA-PSS", jwt.SigningMethodPS384, rsaKey, rsaPEM},
		{"ECDSA", jwt.SigningMethodES256, ecKey, publicPEM(t, ecKey.Public())},
		{"Ed25519", jwt.SigningMethodEdDSA, edKey, publicPEM(t, edKey.Public())},
	}
	for i, way := range ways {
		v, err := (&tokens{keyFile: keyFile(t, way.file), topics: "topics"}).verifier(t.Context(), nil)
		require.NoError(t, err)
		for j, other := range ways {
			token := signed(t, other.method, other.key, "", jwt.MapClaims{"exp": inAnHour()})
			err := v.authorize(asking(token), gateway.Access{Action: gateway.ActionConnect})
			same := i == j || string(way.file) == string(other.file)
			require.Equal(t, same, err == nil, "%s for %s: %v", other.name, way.name, err)
		}
		for name, token := range map[string]string{
			"none":                    signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", jwt.MapClaims{"exp": inAnHour()}),
			"the public key a secret": signed(t, jwt.SigningMethodHS256, rsaPEM, "", jwt.MapClaims{"exp": inAnHour()}),
			"garbage":                 "a.b.c",
			"nothing":                 "",
		} {
			require.Error(t, v.authorize(asking(token), gateway.Access{Action: gateway.ActionInspect}), "%s for %s", name, way.name)
		}
	}
}

func TestClaims(t *testing.T) {
	v, err := (&tokens{
		keyFile: keyFile(t, []byte(secretKey)), issuer: "us", audience: "pghub", topics: "may_hear", publish: "may_say",
	}).verifier(t.Context(), nil)
	require.NoError(t, err)
	claims := func(change func(jwt.MapClaims)) *http.Request {
		c := jwt.MapClaims{
			"exp": inAnHour(), "iss": "us", "aud": "pghub", "may_hear": []string{"user_42", "chat_*", "a/*"}, "may_say": "chat_1 chat_2",
		}
		change(c)
		return asking(signed(t, jwt.SigningMethodHS256, []byte(secretKey), "", c))
	}
	same := func(jwt.MapClaims) {}
	for _, test := range []struct {
		name   string
		change func(jwt.MapClaims)
		access gateway.Access
		in     bool
	}{
		{"all is well", same, gateway.Access{Action: gateway.ActionConnect}, true},
		{"figures", same, gateway.Access{Action: gateway.ActionInspect}, true},
		{"a topic", same, gateway.Access{Action: gateway.ActionListen, Topic: "user_42"}, true},
		{"a topic of a pattern", same, gateway.Access{Action: gateway.ActionListen, Topic: "a/b/c"}, true},
		{"somebody else's", same, gateway.Access{Action: gateway.ActionListen, Topic: "user_421"}, false},
		{"publishing", same, gateway.Access{Action: gateway.ActionPublish, Topic: "chat_2"}, true},
		{"publishing where one may listen", same, gateway.Access{Action: gateway.ActionPublish, Topic: "user_42"}, false},
		{"listening where one may publish", func(c jwt.MapClaims) { delete(c, "may_hear") }, gateway.Access{Action: gateway.ActionListen, Topic: "chat_1"}, false},
		{"a claim of another kind", func(c jwt.MapClaims) { c["may_hear"] = map[string]any{"user_42": true} }, gateway.Access{Action: gateway.ActionListen, Topic: "user_42"}, false},
		{"numbers among texts", func(c jwt.MapClaims) { c["may_hear"] = []any{42, "user_42"} }, gateway.Access{Action: gateway.ActionListen, Topic: "user_42"}, true},
		{"another issuer", func(c jwt.MapClaims) { c["iss"] = "them" }, gateway.Access{Action: gateway.ActionConnect}, false},
		{"no issuer", func(c jwt.MapClaims) { delete(c, "iss") }, gateway.Access{Action: gateway.ActionConnect}, false},
		{"another audience", func(c jwt.MapClaims) { c["aud"] = "bank" }, gateway.Access{Action: gateway.ActionConnect}, false},
		{"no end", func(c jwt.MapClaims) { delete(c, "exp") }, gateway.Access{Action: gateway.ActionConnect}, false},
		{"expired", func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Minute).Unix() }, gateway.Access{Action: gateway.ActionConnect}, false},
		{"not yet", func(c jwt.MapClaims) { c["nbf"] = inAnHour() }, gateway.Access{Action: gateway.ActionConnect}, false},
	} {
		err := v.authorize(claims(test.change), test.access)
		require.Equal(t, test.in, err == nil, "%s: %v", test.name, err)
	}
	err = v.authorize(claims(func(c jwt.MapClaims) { c["exp"] = 1 }), gateway.Access{})
	require.ErrorContains(t, err, "the token has expired")

	until := time.Now().Add(time.Hour).Truncate(time.Second)
	require.Equal(t, until.Add(leeway), v.expires(claims(func(c jwt.MapClaims) { c["exp"] = until.Unix() })))
	require.WithinDuration(t, time.Now(), v.expires(asking("garbage")), time.Minute, "at once")
}

// keySet serves a JWK set whose keys change.
type keySet struct {
	mu   sync.Mutex
	keys map[string]*ecdsa.PrivateKey
}

func (s *keySet) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	time.Sleep(20 * time.Millisecond) // as far away as it commonly is
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := []map[string]string{}
	for kid, key := range s.keys {
		point, err := key.PublicKey.Bytes()
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		text := base64.RawURLEncoding.EncodeToString
		keys = append(keys, map[string]string{"kty": "EC", "crv": "P-256", "kid": kid, "x": text(point[1:33]), "y": text(point[33:])})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
}

func (s *keySet) add(t *testing.T, kid string) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = map[string]*ecdsa.PrivateKey{kid: key}
	return key
}

// The program, with a set of keys that changes, tokens in a subprotocol, and a token that comes to its end.
func TestTokensAUser(t *testing.T) {
	set := &keySet{}
	old := set.add(t, "old")
	keys := httptest.NewServer(set)
	t.Cleanup(keys.Close)
	p := start(t, []string{"DATABASE_URL=" + pgtest.Database(t)}, "serve", "--listen", "127.0.0.1:0", "--topics", "*",
		"--jwt-jwks", keys.URL, "--log-level", "debug")
	base := "http://" + p.address
	ready(t, http.DefaultClient, base)
	dial := func(path, token string) (*websocket.Conn, int) {
		ws, resp, err := websocket.Dial(within(t), base+path, &websocket.DialOptions{Subprotocols: []string{"pghub", "pghub.token." + token}})
		if err != nil {
			require.NotNil(t, resp, err)
			return nil, resp.StatusCode
		}
		t.Cleanup(func() { _ = ws.CloseNow() })
		return ws, resp.StatusCode
	}
	token := func(key *ecdsa.PrivateKey, kid string, exp int64) string {
		return signed(t, jwt.SigningMethodES256, key, kid, jwt.MapClaims{"exp": exp, "topics": []string{"mine_*"}})
	}
	good := token(old, "old", inAnHour())
	_, status := dial("/listen/mine_1", good)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	_, status = dial("/listen/yours", good)
	require.Equal(t, http.StatusForbidden, status)
	_, status = dial("/ws", token(old, "old", 1))
	require.Equal(t, http.StatusUnauthorized, status)

	// It comes to its end while the client is connected: a few seconds are left of what clocks may differ by.
	var ends *websocket.Conn
	for status = 0; status != http.StatusSwitchingProtocols; {
		ends, status = dial("/listen/mine_1", token(old, "old", time.Now().Add(3*time.Second-leeway).Unix()))
	}
	_, _, err := ends.Read(within(t))
	require.EqualValues(t, gateway.CodeExpired, websocket.CloseStatus(err), "%v", err)

	// A new key is found as soon as a token names it, and the old one is not believed any more.
	fresh := set.add(t, "new")
	_, status = dial("/ws", token(fresh, "new", inAnHour()))
	require.Equal(t, http.StatusSwitchingProtocols, status)
	_, status = dial("/ws", good)
	require.Equal(t, http.StatusUnauthorized, status)
	require.NotContains(t, p.said(), strings.Split(good, ".")[1])
	require.NotContains(t, p.said(), "without a token")
}

func TestMistakesWithKeys(t *testing.T) {
	file := keyFile(t, []byte(secretKey))
	for _, test := range []struct{ args, says string }{
		{"--jwt-key " + keyFile(t, []byte("short")), "at least 32 bytes"},
		{"--jwt-key /nowhere/key", "/nowhere/key"},
		{"--jwt-key " + keyFile(t, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), "not a public key"},
		{"--jwt-key " + file + " --jwt-jwks https://x", "say one"},
		{"--jwt-key " + file + " --token sesame", "say one"},
		{"--jwt-issuer us", "--jwt-issuer needs"},
		{"--jwt-key=", "--jwt-key needs"},
		{"--jwt-jwks http://keys.example/", "by https"},
		{"--jwt-jwks http://127.0.0.1:1/", "--jwt-jwks"},
	} {
		said := failing(t, []string{"DATABASE_URL=postgres://127.0.0.1:1/x"}, append([]string{"serve", "--topics", "*"}, strings.Fields(test.args)...)...)
		require.Contains(t, said, test.says)
		require.NotContains(t, said, "msg=serving")
	}
}
