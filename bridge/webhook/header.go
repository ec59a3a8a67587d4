package webhook

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/pghub/pghub/bridge"
)

// own are headers that no message may set: they are the request's.
var own = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Upgrade": true, "Te": true, "Trailer": true, "Keep-Alive": true,
	"Webhook-Id": true, "Webhook-Timestamp": true, "Webhook-Signature": true,
}

// set puts a header of a message into a request. One that HTTP does not take is refused, since it would fail for ever.
func set(header http.Header, name, text string) error {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case own[canonical]:
		return nil // not the message's to say
	case !isToken(name), strings.ContainsAny(text, "\r\n\x00"):
		return bridge.Refuse(fmt.Errorf("webhook: header %.60q is none of HTTP", name))
	}
	header[canonical] = []string{text}
	return nil
}

func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}

// percent writes an attribute of a CloudEvent as its binding for HTTP has it: what is not printable ASCII, a blank, a quote and a percent
// sign are bytes in hexadecimal.
func percent(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
