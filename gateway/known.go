package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// A topic that a client asks for on /ws and /events may be a pattern, of those that the gateway knows by name: Config.Topics that
// are no patterns, and the stream's live topics. A topic with such a character in its name is written with a backslash before it.
const wild = "*?["

var literal = strings.NewReplacer(`\*`, "*", `\?`, "?", `\[`, "[")

func isPattern(topic string) bool {
	return strings.ContainsAny(strings.NewReplacer(`\*`, "", `\?`, "", `\[`, "").Replace(topic), wild)
}

// knownTopics are those that patterns of clients stand for.
func (cfg *Config) knownTopics() (known []string) {
	if cfg.Stream != nil {
		known = slices.DeleteFunc(cfg.Stream.LiveTopics(), func(t string) bool { return isOpen(cfg.Topics, t) != nil })
	}
	for _, t := range cfg.Topics {
		if !strings.ContainsAny(t, wild+`\`) && isOpen([]string{t}, t) == nil {
			known = append(known, t)
		}
	}
	slices.Sort(known)
	return slices.Compact(known)
}

// mayListenTo puts the topics that a client may have in the place of patterns, and asks whether it may have the others: once for each
// topic. That a client may not have all that a pattern matches is nothing to tell anybody.
func (g *Gateway) mayListenTo(r *http.Request, wanted []string) (topics []string, err error) {
	var patterns []string
	for _, t := range wanted {
		switch {
		case !isPattern(t):
			topics = append(topics, literal.Replace(t))
		case !validPattern(t):
			return nil, badTopic.about(strings.ToValidUTF8(t[:min(len(t), 63)], "�"))
		default:
			patterns = append(patterns, t)
		}
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	if err := g.mayListen(r, topics); err != nil {
		return nil, err
	}
	names := topics
	for _, t := range g.known {
		if slices.Contains(names, t) || !slices.ContainsFunc(patterns, func(p string) bool { return TopicMatches(p, t) }) {
			continue
		}
		if err := g.ask(r, Access{ActionListen, t}); err != nil {
			g.cfg.Logger.Debug("gateway: left out of a pattern", "topic", t, "from", r.RemoteAddr, "error", err)
			continue
		}
		if topics = append(topics, t); len(topics) > g.cfg.MaxTopics {
			return nil, &tooManyTopics
		}
	}
	for _, p := range patterns {
		if !slices.ContainsFunc(g.known, func(t string) bool { return TopicMatches(p, t) && slices.Contains(topics, t) }) {
			return nil, noTopicMatches.about(p)
		}
	}
	slices.Sort(topics)
	return topics, nil
}

// heldTopics are the topics of a client that names and patterns stand for.
func (c *client) heldTopics(wanted []string) (topics []string) {
	held := c.gateway.admission.topicsOf(c)
	for _, t := range wanted {
		if !isPattern(t) {
			topics = append(topics, literal.Replace(t))
			continue
		}
		for _, h := range held {
			if TopicMatches(t, h) {
				topics = append(topics, h)
			}
		}
	}
	return topics
}
