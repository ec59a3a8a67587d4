package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"
)

// maxDiscarded is how much of a body that nobody wants is read, so that its connection can serve another request.
const maxDiscarded = 256 << 10

// bounded has a request's body come to its end in time, and counts the request meanwhile: the server itself would wait
// for ever.
func (g *Gateway) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		from := g.addressOf(r)
		err := g.admission.enterRequest(from)
		if err == nil {
			defer g.admission.leaveRequest(from)
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				err = &noBody
			}
		}
		deadline := time.Now()
		if err == nil {
			deadline = deadline.Add(g.cfg.ReadTimeout)
		}
		if deadlineErr := setReadDeadline(w, deadline); deadlineErr != nil {
			err = deadlineErr
		}
		if err != nil {
			w.Header().Set("Connection", "close")
			g.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
		// What is left of it: the server would read that, too, but uncounted.
		if _, err := io.CopyN(io.Discard, r.Body, maxDiscarded); errors.Is(err, io.EOF) {
			_ = g.bodyIsRead(w) // or the connection is gone
		}
	})
}

// bodyIsRead ends the time limit of a body. Otherwise it would end the request.
func (g *Gateway) bodyIsRead(w http.ResponseWriter) error { return setReadDeadline(w, time.Time{}) }

// setReadDeadline does nothing where w cannot do it: then the server's own limit is all there is.
func setReadDeadline(w http.ResponseWriter, t time.Time) error {
	if err := http.NewResponseController(w).SetReadDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// refuseHead answers a HEAD request to an address that streams.
func (g *Gateway) refuseHead(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", http.MethodGet)
	g.refuse(w, r, &getOnly)
}

// panicsLogged logs a handler's panic, which many servers log where nobody sees it, and ends the request.
func (g *Gateway) panicsLogged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				if v != http.ErrAbortHandler {
					g.logPanic("a request", v)
				}
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func (g *Gateway) logPanic(where string, v any) {
	g.cfg.Logger.Error("gateway: panic", "in", where, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}
