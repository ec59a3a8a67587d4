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
func (cfg *Config) knownTopics() []string {
	var known []string
	if cfg.Stream != nil {
		known = cfg.Stream.LiveTopics()
	}
	for _, t := range cfg.Topics {
		if !strings.ContainsAny(t, wild+`\`) {
			known = append(known, t)
		}
	}
	slices.Sort(known)
	return slices.Compact(known)
}

// mayListenTo puts the topics that a client may have in the place of patterns, and asks whether it may have the others.
func (g *Gateway) mayListenTo(r *http.Request, wanted []string) (topics []string, err error) {
	for _, t := range wanted {
		if !isPattern(t) {
			topics = append(topics, literal.Replace(t))
			continue
		}
		if !validPattern(t) {
			return nil, badTopic.about(strings.ToValidUTF8(t[:min(len(t), 63)], "�"))
		}
		found := 0
		for _, known := range g.cfg.knownTopics() {
			if TopicMatches(t, known) && g.mayListen(r, []string{known}) == nil {
				topics = append(topics, known)
				found++
			}
		}
		if found == 0 {
			return nil, noTopicMatches.about(t)
		}
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	if len(topics) > g.cfg.MaxTopics {
		return nil, &tooManyTopics
	}
	return topics, g.mayListen(r, topics)
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
