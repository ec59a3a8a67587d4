package gateway

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
)

// page is a text that is served as it is, or compressed once for those who take that.
type page struct {
	kind   string
	text   []byte
	packed []byte
}

func newPage(kind string, text []byte) *page {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, _ = z.Write(text) // a buffer takes all
		_ = z.Close()
	}
	return &page{kind, text, b.Bytes()}
}

// ServeHTTP is part of http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", p.kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	h.Add("Vary", "Accept-Encoding")
	text := p.text
	if takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		text = p.packed
	}
	_, _ = w.Write(text) // the client is gone, or has it
}

func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.ReplaceAll(weight, " ", "") != "q=0" {
			return true
		}
	}
	return false
}
