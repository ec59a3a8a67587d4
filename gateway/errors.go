package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pghub/pghub"
)

// Codes that a WebSocket is closed with.
const (
	CodeGoingAway = 1001 // the gateway or the hub is being stopped: come back in a moment
	CodeProtocol  = 1002 // the client breaks the protocol of WebSockets
	CodeNotText   = 1007 // a text message that is not UTF-8
	CodeTooBig    = 1009 // a message longer than Config.MaxMessage
	CodeSlow      = 4008 // the client does not read as fast as events come
	CodeExpired   = 4401 // what the client was allowed has come to its end: see Config.Expires
	CodeFlood     = 4029 // the client sends more than Config.MaxRate frames a second
)

// problem is an answer that refuses something: by name, for programs, and in words, for people. No detail of the
// database is ever in it.
type problem struct {
	Status  int    `json:"-"`
	Name    string `json:"error"`
	Message string `json:"message"`
	Topic   string `json:"topic,omitempty"`
}

func (p *problem) Error() string { return p.Message }

// about returns a copy that names a topic.
func (p problem) about(topic string) *problem {
	p.Topic = topic
	return &p
}

// The problems, by name; README.md has the table.
var (
	badRequest               = problem{Status: http.StatusBadRequest, Name: "bad_request", Message: "the request is not understood"}
	noHistory                = problem{Status: http.StatusBadRequest, Name: "no_history", Message: "this gateway keeps no events to be had again"}
	noTopicMatches           = problem{Status: http.StatusForbidden, Name: "no_topic_matches", Message: "no topic that is known, and open to this client, matches this pattern"}
	badFilter                = problem{Status: http.StatusBadRequest, Name: "bad_request", Message: "a filter has key, integers, and where, an object of fields and what they equal"}
	badTopic                 = problem{Status: http.StatusBadRequest, Name: "bad_topic", Message: "a topic is 1 to 63 bytes of UTF-8 without NUL"}
	badValue                 = problem{Status: http.StatusBadRequest, Name: "bad_value", Message: "the value must be JSON (or, with format=payload, text without NUL) and keys integers"}
	topicNotAllowed          = problem{Status: http.StatusForbidden, Name: "topic_not_allowed", Message: "this topic is not open to clients"}
	originNotAllowed         = problem{Status: http.StatusForbidden, Name: "origin_not_allowed", Message: "pages of this origin may not connect"}
	notAuthorized            = problem{Status: http.StatusForbidden, Name: "not_authorized", Message: "not authorised"}
	tooManyClients           = problem{Status: http.StatusServiceUnavailable, Name: "too_many_clients", Message: "too many clients are connected"}
	tooManyFromAddress       = problem{Status: http.StatusTooManyRequests, Name: "too_many_from_address", Message: "too many clients are connected from this address"}
	tooManyTopics            = problem{Status: http.StatusBadRequest, Name: "too_many_topics", Message: "too many topics for one client"}
	tooManyTopicsFromAddress = problem{Status: http.StatusTooManyRequests, Name: "too_many_topics_from_address", Message: "too many different topics are in use from this address"}
	tooManyTopicsTotal       = problem{Status: http.StatusServiceUnavailable, Name: "too_many_topics_total", Message: "too many different topics are in use"}
	tooManyOperations        = problem{Name: "too_many_operations", Message: "too many operations are waiting"}
	tooSlow                  = problem{Status: http.StatusRequestTimeout, Name: "too_slow", Message: "the body did not come to its end in time"}
	noBody                   = problem{Status: http.StatusBadRequest, Name: "bad_request", Message: "this request takes no body"}
	getOnly                  = problem{Status: http.StatusMethodNotAllowed, Name: "bad_request", Message: "this address is for GET"}
	hostNotAllowed           = problem{Status: http.StatusForbidden, Name: "host_not_allowed", Message: "this is not a name of this server"}
	tooLarge                 = problem{Status: http.StatusRequestEntityTooLarge, Name: "too_large", Message: "a payload has at most 7999 bytes"}
	upgradeRequired          = problem{Status: http.StatusUpgradeRequired, Name: "upgrade_required", Message: "this address is for WebSockets"}
	listenRefused            = problem{Status: http.StatusBadGateway, Name: "listen_refused", Message: "the database refused the topic"}
	notifyRefused            = problem{Status: http.StatusBadGateway, Name: "notify_refused", Message: "the database refused the event; nothing was sent"}
	notConnected             = problem{Status: http.StatusServiceUnavailable, Name: "not_connected", Message: "the database cannot be reached; nothing was sent"}
	notListening             = problem{Status: http.StatusServiceUnavailable, Name: "not_connected", Message: "the database cannot be reached"}
	unknownOutcome           = problem{Status: http.StatusGatewayTimeout, Name: "unknown_outcome", Message: "the event may or may not have been sent"}
	shuttingDown             = problem{Status: http.StatusServiceUnavailable, Name: "shutting_down", Message: "the gateway is being stopped"}
	publishingNotSetUp       = problem{Status: http.StatusNotImplemented, Name: "publishing_not_set_up", Message: "this gateway has no connection to publish with"}
	internalProblem          = problem{Status: http.StatusInternalServerError, Name: "internal", Message: "something went wrong, and is in the gateway's log"}
	errStreamingMissing      = errors.New("the http.ResponseWriter cannot stream")
)

// problemOf translates an error of the hub, of Authorize or of this package. known: it needs no place in the log.
func problemOf(err error) (p *problem, known bool) {
	var refused *pgconn.PgError
	var listen *pghub.ListenError
	var own *problem
	switch {
	case errors.As(err, &own):
		return own, true
	case errors.Is(err, pghub.ErrTopic):
		return &badTopic, true
	case errors.Is(err, pghub.ErrPayloadTooLarge):
		return &tooLarge, true
	case errors.Is(err, pghub.ErrValue):
		return &badValue, true
	case errors.Is(err, pghub.ErrUnknownOutcome):
		return &unknownOutcome, true
	case errors.Is(err, pghub.ErrNotConnected), errors.Is(err, pghub.ErrNotStarted), errors.Is(err, context.DeadlineExceeded):
		return &notConnected, true
	case errors.Is(err, pghub.ErrStopped), errors.Is(err, pghub.ErrClosed), errors.Is(err, context.Canceled):
		return &shuttingDown, true
	case errors.Is(err, pghub.ErrNoPool):
		return &publishingNotSetUp, true
	case errors.As(err, &listen):
		return &listenRefused, false
	case errors.As(err, &refused):
		return &notifyRefused, false
	}
	return &internalProblem, false
}

// passing says whether another time may help.
func (p *problem) passing() bool {
	return p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests
}

// refuse answers a request with what is wrong with it.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, err error) {
	g.answerProblem(w, g.noteRefusal(r, err))
}

// noteRefusal counts and logs what is wrong with a request.
func (g *Gateway) noteRefusal(r *http.Request, err error) *problem {
	p, known := problemOf(err)
	if !known {
		g.cfg.Logger.Warn("gateway: a request failed", "path", r.URL.Path, "error", err)
	}
	g.counters.refusedOne(p.Name)
	g.cfg.Logger.Debug("gateway: refused", "path", r.URL.Path, "from", r.RemoteAddr, "error", p.Name, "topic", p.Topic)
	return p
}

func (g *Gateway) answerProblem(w http.ResponseWriter, p *problem) {
	if p.passing() {
		g.retryAfter(w)
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	answerJSON(w, p.Status, p)
}

func (g *Gateway) retryAfter(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(g.cfg.Retry.Seconds()))))
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone, or has it
}
