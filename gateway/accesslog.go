package gateway

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// accessLogged writes a line for every request when it is over; of a WebSocket, when it is opened. Queries are left out: tokens stand
// in them.
func (g *Gateway) accessLogged(next http.Handler) http.Handler {
	if g.cfg.AccessLog == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		seen := &seenWriter{ResponseWriter: w}
		path := r.URL.Path
		panicked := true
		defer func() {
			if seen.status == 0 { // which the server answers with 200
				seen.status = http.StatusOK
				if panicked {
					seen.status = http.StatusInternalServerError
				}
			}
			g.cfg.AccessLog.LogAttrs(r.Context(), slog.LevelInfo, "request",
				slog.String("method", r.Method), slog.String("path", path), slog.Int("status", seen.status), slog.Int64("bytes", seen.bytes),
				slog.Duration("took", time.Since(began)), slog.String("from", g.addressOf(r)), slog.String("agent", r.UserAgent()))
		}()
		next.ServeHTTP(seen, r)
		panicked = false
	})
}

// seenWriter takes down what is answered.
type seenWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// Unwrap is for http.ResponseController.
func (w *seenWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader is part of http.ResponseWriter.
func (w *seenWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write is part of http.ResponseWriter.
func (w *seenWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Hijack is part of http.Hijacker.
func (w *seenWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.status = http.StatusSwitchingProtocols
	return http.NewResponseController(w.ResponseWriter).Hijack()
}
