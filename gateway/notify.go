package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// serveNotify publishes one event, and answers when it is committed.
func (g *Gateway) serveNotify(w http.ResponseWriter, r *http.Request) {
	topic := r.PathValue("topic")
	raw, err := formatOf(r, false)
	if err == nil {
		err = g.mayPublish(r, topic)
	}
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(g.cfg.MaxMessage)))
	if err == nil {
		err = g.bodyIsRead(w)
	}
	if err != nil {
		var tooLong *http.MaxBytesError
		switch {
		case errors.As(err, &tooLong):
			err = &tooLarge
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = &tooSlow
		default:
			err = &badRequest
		}
		g.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.PublishTimeout)
	defer cancel()
	if raw {
		err = g.hub.NotifyPayload(ctx, topic, string(body))
	} else {
		err = g.notifyValue(ctx, topic, r.URL.Query()["key"], body)
	}
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	g.counters.published.Add(1)
	w.WriteHeader(http.StatusNoContent)
}

// notifyValue publishes a body that is JSON, or empty for no value, under keys: ?key=1&key=2 or ?key=1,2.
func (g *Gateway) notifyValue(ctx context.Context, topic string, keys []string, body []byte) error {
	var key []int64
	for _, list := range keys {
		for text := range strings.SplitSeq(list, ",") {
			k, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return &badValue
			}
			key = append(key, k)
		}
	}
	if len(body) == 0 {
		return g.cfg.Notify(ctx, topic, key, nil)
	}
	if !json.Valid(body) {
		return &badValue
	}
	return g.cfg.Notify(ctx, topic, key, json.RawMessage(body))
}
