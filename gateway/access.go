package gateway

import (
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Action is what a client is about to do.
type Action string

// What Config.Authorize is asked about.
const (
	ActionListen  Action = "listen"  // to Access.Topic
	ActionPublish Action = "publish" // to Access.Topic
	ActionConnect Action = "connect" // open a WebSocket on /ws; ActionListen follows for each topic
	ActionInspect Action = "inspect" // read /stats or /metrics
)

// Access is what Config.Authorize decides about.
type Access struct {
	Action Action
	Topic  string // "" where the action has none
}

// Refuse returns an error for Config.Authorize whose reason the client is shown. The status is that of the HTTP answer,
// if there is still one to give: 401 where a token is missing or bad, else 403.
func Refuse(status int, reason string) error {
	return &problem{Status: status, Name: notAuthorized.Name, Message: reason}
}

// mayListen says why a request may not listen to topics, the same ones once; nil: it may.
func (g *Gateway) mayListen(r *http.Request, topics []string) error {
	return g.may(r, ActionListen, g.cfg.Topics, topics)
}

// mayPublish says why a request may not publish to a topic; nil: it may.
func (g *Gateway) mayPublish(r *http.Request, topic string) error {
	return g.may(r, ActionPublish, g.cfg.Publish, []string{topic})
}

func (g *Gateway) may(r *http.Request, action Action, patterns, topics []string) error {
	for _, t := range topics {
		if err := isOpen(patterns, t); err != nil {
			return err
		}
		if err := g.authorize(r, Access{action, t}); err != nil {
			return err
		}
	}
	return nil
}

// isOpen says why nobody may have a topic; nil: it is up to Config.Authorize.
func isOpen(patterns []string, t string) error {
	switch {
	case t == "" || len(t) > 63 || !utf8.ValidString(t) || strings.IndexByte(t, 0) >= 0:
		return badTopic.about(strings.ToValidUTF8(t[:min(len(t), 63)], "�"))
	case !slices.ContainsFunc(patterns, func(p string) bool { return TopicMatches(p, t) }):
		return topicNotAllowed.about(t)
	}
	return nil
}

// authorize asks Config.Authorize, and makes of its error what the client is told.
func (g *Gateway) authorize(r *http.Request, a Access) error {
	err := g.ask(r, a)
	if err == nil {
		return nil
	}
	var shown *problem
	if errors.As(err, &shown) {
		return shown.about(a.Topic)
	}
	g.cfg.Logger.Info("gateway: not authorised", "action", a.Action, "topic", a.Topic, "from", r.RemoteAddr, "error", err)
	return notAuthorized.about(a.Topic)
}

// ask asks Config.Authorize. Where that panics the answer is no.
func (g *Gateway) ask(r *http.Request, a Access) (err error) {
	if g.cfg.Authorize == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			g.logPanic("Config.Authorize", v)
			err = &internalProblem
		}
	}()
	return g.cfg.Authorize(r, a)
}

// In topics a slash is a character as any other. No topic contains NUL.
var slashToNUL = strings.NewReplacer("/", "\x00")

// TopicMatches says whether a pattern of topics, as Config.Topics has them, matches a topic.
func TopicMatches(pattern, topic string) bool {
	ok, err := path.Match(slashToNUL.Replace(pattern), slashToNUL.Replace(topic))
	return ok && err == nil
}

func validPattern(pattern string) bool {
	_, err := path.Match(slashToNUL.Replace(pattern), "")
	return err == nil && pattern != ""
}
