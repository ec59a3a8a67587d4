package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/urfave/cli/v3"
	"golang.org/x/time/rate"

	"github.com/pghub/pghub/gateway"
)

// tokens is how tokens a user are judged: see https://www.rfc-editor.org/rfc/rfc7519.
type tokens struct {
	keyFile, keySet  string // one of them: a file, or the address of a JWK set
	issuer, audience string // "": any
	topics, publish  string // the claims with the patterns of topics that a user may listen and publish to
}

// leeway is by how much clocks may differ.
const leeway = 10 * time.Second

// readTokens reads the flags; nil: there are none.
func readTokens(cmd *cli.Command) (*tokens, error) {
	t := &tokens{
		keyFile: cmd.String("jwt-key"), keySet: cmd.String("jwt-jwks"),
		issuer: cmd.String("jwt-issuer"), audience: cmd.String("jwt-audience"),
		topics: cmd.String("jwt-topics"), publish: cmd.String("jwt-publish"),
	}
	switch {
	case t.keyFile != "" && t.keySet != "":
		return nil, errors.New("--jwt-key and --jwt-jwks are two places for one thing; say one")
	case t.keyFile == "" && t.keySet == "":
		for _, name := range []string{"jwt-key", "jwt-jwks", "jwt-issuer", "jwt-audience", "jwt-topics", "jwt-publish"} {
			if cmd.IsSet(name) {
				return nil, fmt.Errorf("--%s needs --jwt-key or --jwt-jwks, and that it is not empty", name)
			}
		}
		return nil, nil
	case cmd.IsSet("token"):
		return nil, errors.New("--token and --jwt-… are two ways to let clients in; say one")
	}
	return t, nil
}

// verifier judges tokens with keys that are known.
type verifier struct {
	*tokens
	parser *jwt.Parser
	key    jwt.Keyfunc
}

// verifier reads the key, or fetches the set of keys and goes on fetching it until ctx ends.
func (t *tokens) verifier(ctx context.Context, failed func(error)) (*verifier, error) {
	v := &verifier{tokens: t}
	var methods []string
	if t.keyFile != "" {
		key, of, err := readKey(t.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--jwt-key: %w", err)
		}
		methods, v.key = of, func(*jwt.Token) (any, error) { return key, nil }
	} else {
		set, err := fetchKeys(ctx, t.keySet, failed)
		if err != nil {
			return nil, fmt.Errorf("--jwt-jwks: %w", err)
		}
		methods, v.key = slices.Concat(rsaMethods, ecdsaMethods, edMethods), set.Keyfunc
	}
	options := []jwt.ParserOption{jwt.WithValidMethods(methods), jwt.WithExpirationRequired(), jwt.WithLeeway(leeway)}
	if t.issuer != "" {
		options = append(options, jwt.WithIssuer(t.issuer))
	}
	if t.audience != "" {
		options = append(options, jwt.WithAudience(t.audience))
	}
	v.parser = jwt.NewParser(options...)
	return v, nil
}

// The methods that go with a kind of key. One that is made for another kind must not be taken: a public key is no secret.
var (
	secretMethods = []string{"HS256", "HS384", "HS512"}
	rsaMethods    = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	ecdsaMethods  = []string{"ES256", "ES384", "ES512"}
	edMethods     = []string{"EdDSA"}
)

// readKey reads a public key as PEM, or, from any other file, a secret.
func readKey(file string) (key any, methods []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		const least = 32 // bytes, as of the hash that it is for
		secret := strings.TrimSpace(string(text))
		if len(secret) < least {
			return nil, nil, fmt.Errorf("%s: a secret has at least %d bytes", file, least)
		}
		return []byte(secret), secretMethods, nil
	}
	if block.Type == "CERTIFICATE" {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		key = certificate.PublicKey
	} else if key, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, nil, fmt.Errorf("%s: not a public key: %w", file, err)
	}
	switch key.(type) {
	case *rsa.PublicKey:
		return key, rsaMethods, nil
	case *ecdsa.PublicKey:
		return key, ecdsaMethods, nil
	case ed25519.PublicKey:
		return key, edMethods, nil
	}
	return nil, nil, fmt.Errorf("%s: keys of the type %T are not for tokens", file, key)
}

// fetchKeys fetches a JWK set now, every hour, and when a token names a key that is not known, though not more often than
// every half minute: tokens with made-up names cost nothing.
func fetchKeys(ctx context.Context, address string, failed func(error)) (keyfunc.Keyfunc, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" && u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" && u.Hostname() != "::1" {
		return nil, fmt.Errorf("%q: keys are fetched by https", address)
	}
	const patience, pause = 10 * time.Second, 30 * time.Second
	mustSucceed := false
	return keyfunc.NewDefaultOverrideCtx(ctx, []string{address}, keyfunc.Override{
		Client:                    &http.Client{Timeout: patience},
		HTTPTimeout:               patience,
		NoErrorReturnFirstHTTPReq: &mustSucceed,
		RateLimitWaitMax:          patience, // until the pause is over, and for fetching; one whose turn is later is refused at once
		RefreshUnknownKID:         rate.NewLimiter(rate.Every(pause), 1),
		RefreshErrorHandlerFunc: func(string) func(context.Context, error) {
			return func(_ context.Context, err error) { failed(err) }
		},
	})
}

// claims returns what the token of a request says, if it is to be believed.
func (v *verifier) claims(r *http.Request) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(gateway.Token(r), claims, v.key)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, gateway.Refuse(http.StatusUnauthorized, "the token has expired")
	case err != nil:
		return nil, gateway.Refuse(http.StatusUnauthorized, "a valid token is required")
	}
	return claims, nil
}

// authorize is gateway.Config.Authorize.
func (v *verifier) authorize(r *http.Request, a gateway.Access) error {
	claims, err := v.claims(r)
	if err != nil {
		return err
	}
	claim := ""
	switch a.Action {
	case gateway.ActionListen:
		claim = v.topics
	case gateway.ActionPublish:
		claim = v.publish
	default:
		return nil
	}
	if !slices.ContainsFunc(patterns(claims[claim]), func(p string) bool { return gateway.TopicMatches(p, a.Topic) }) {
		return gateway.Refuse(http.StatusForbidden, "the token does not allow this topic")
	}
	return nil
}

// expires is gateway.Config.Expires.
func (v *verifier) expires(r *http.Request) time.Time {
	claims, err := v.claims(r)
	if err != nil {
		return time.Now()
	}
	at, err := claims.GetExpirationTime()
	if err != nil || at == nil {
		return time.Now() // never: it is required
	}
	return at.Add(leeway)
}

// patterns reads a claim: a list of texts, or one with blanks between them, as the claim scope has it.
func patterns(claim any) (list []string) {
	switch c := claim.(type) {
	case string:
		return strings.Fields(c)
	case []any:
		for _, part := range c {
			if text, is := part.(string); is {
				list = append(list, text)
			}
		}
	}
	return list
}
