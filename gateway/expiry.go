package gateway

import (
	"context"
	"net/http"
	"time"
)

// expiry asks again about a client when what it may do has come to its end. It keeps the request for that.
type expiry struct {
	client  *client
	request *http.Request
	at      time.Time
	timer   *time.Timer
}

// watchExpiry begins to watch over a client that has been admitted. leave ends it.
func (c *client) watchExpiry(r *http.Request) error {
	g := c.gateway
	if g.cfg.Expires == nil || g.cfg.Authorize == nil {
		return nil
	}
	at, err := g.expires(r)
	if err != nil || at.IsZero() {
		return err
	}
	e := &expiry{client: c, request: r.WithContext(context.WithoutCancel(r.Context())), at: at}
	// Set before it can run out.
	e.timer = time.AfterFunc(time.Hour, e.ask)
	context.AfterFunc(c.ctx, func() { e.timer.Stop() })
	e.timer.Reset(time.Until(at))
	return nil
}

// ask is called when the time has come.
func (e *expiry) ask() {
	c, g := e.client, e.client.gateway
	if c.ctx.Err() != nil {
		return
	}
	topics := g.admission.topicsOf(c)
	err := g.mayListen(e.request, topics)
	if err == nil && c.transport == viaWebSocket && len(topics) == 0 {
		err = g.authorize(e.request, Access{Action: ActionConnect})
	}
	var next time.Time
	if err == nil {
		next, err = g.expires(e.request)
	}
	if err != nil {
		c.closedFor(&g.counters.expired)
		g.cfg.Logger.Debug("gateway: a client may not stay", "from", c.address)
		c.out.finish(endExpired)
		return
	}
	if next.After(e.at) {
		e.at = next
		e.timer.Reset(time.Until(next))
	}
}

// expires asks Config.Expires. Where that panics there is no time at all.
func (g *Gateway) expires(r *http.Request) (at time.Time, err error) {
	defer func() {
		if v := recover(); v != nil {
			g.logPanic("Config.Expires", v)
			err = &internalProblem
		}
	}()
	return g.cfg.Expires(r), nil
}
