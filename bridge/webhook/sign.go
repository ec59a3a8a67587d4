package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

const secretPrefix = "whsec_"

// key is a secret's bytes. The error does not show it.
func key(secret string) ([]byte, error) {
	text := strings.TrimPrefix(secret, secretPrefix)
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		decoded, err = base64.RawStdEncoding.DecodeString(text)
	}
	if err != nil {
		return nil, errors.New("a secret is not base64, with whsec_ in front or without")
	}
	if len(decoded) < 16 {
		return nil, fmt.Errorf("a secret has %d bytes; at least 16, better 24 to 64", len(decoded))
	}
	return decoded, nil
}

func sign(key []byte, id, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + timestamp + "."))
	h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// Errors of Verify, to use with errors.Is.
var (
	// ErrSignature says that no signature of the request was made with one of the secrets.
	ErrSignature = errors.New("webhook: the signature is not right")
	// ErrTimestamp says that the request is too old, or from the future.
	ErrTimestamp = errors.New("webhook: the time of the request is not near enough to now")
)

// Verify is for those who receive webhooks: it checks that the request was signed with one of the secrets, not longer ago than
// tolerance, 0 meaning 5 minutes, and that the body is the one that was signed. It returns the ID of the message, by which the
// receiver can tell whether it has seen it.
func Verify(header http.Header, body []byte, tolerance time.Duration, secrets ...string) (id string, err error) {
	if tolerance == 0 {
		tolerance = 5 * time.Minute
	}
	id, timestamp := header.Get(headerID), header.Get(headerTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return "", fmt.Errorf("%w: %s is not a number", ErrTimestamp, headerTimestamp)
	}
	if age := time.Since(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return "", ErrTimestamp
	}
	for _, secret := range secrets {
		k, err := key(secret)
		if err != nil {
			return "", fmt.Errorf("webhook: %w", err)
		}
		want := sign(k, id, timestamp, body)
		for _, got := range strings.Fields(header.Get(headerSignature)) {
			if hmac.Equal([]byte(got), []byte(want)) {
				return id, nil
			}
		}
	}
	return "", ErrSignature
}
