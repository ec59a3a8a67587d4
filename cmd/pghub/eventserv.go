package main

import (
	"net"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// Settings of pg_eventserv are taken where ours say nothing, so that its users can move with what they have: variables ES_ and the name in
// capitals, and in the file of --config names as Channels, in whatever spelling, in no table.

// eventservFlags says which setting of pg_eventserv a flag takes.
var eventservFlags = map[string]string{
	"database": "dbconnection", "serve.topics": "channels", "serve.origins": "corsorigins", "serve.base-path": "basepath",
	"serve.tls-cert": "tlsservercertificatefile", "serve.tls-key": "tlsserverprivatekeyfile", "serve.listen": "httpport", "log-level": "debug",
}

// eventservUnused are its settings that have no meaning here.
var eventservUnused = []string{"httphost", "httpsport", "urlbase", "assetspath", "dbpoolmaxconnlifetime", "dbpoolmaxconns"}

// isEventserv says whether a name in a file is one of pg_eventserv's.
func isEventserv(key string) bool {
	key = strings.ToLower(key)
	if slices.Contains(eventservUnused, key) {
		return true
	}
	for _, name := range eventservFlags {
		if name == key {
			return true
		}
	}
	return false
}

// eventservValue is such a setting as the value of a flag.
type eventservValue struct {
	file *configFile
	key  string // of the flag
}

// Lookup is part of cli.ValueSource.
func (v *eventservValue) Lookup() (string, bool) {
	name := eventservFlags[v.key]
	text, set := v.find(name)
	switch name {
	case "httpport":
		host, hostSet := v.find("httphost")
		if !set && !hostSet {
			return "", false
		}
		if !hostSet {
			host = "127.0.0.1" // nothing is open that was not said
		}
		if !set {
			text = "7700"
		}
		return net.JoinHostPort(host, text), true
	case "channels", "corsorigins": // with blanks between them in the environment
		return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }), ","), set
	case "debug":
		return "debug", strings.EqualFold(text, "true") || text == "1"
	}
	return text, set && text != ""
}

// find looks for a setting that is not empty.
func (v *eventservValue) find(name string) (text string, set bool) {
	if text = os.Getenv("ES_" + strings.ToUpper(name)); text != "" {
		return text, true
	}
	v.file.load()
	for key, value := range v.file.values {
		if strings.EqualFold(key, name) && value != "" {
			return value, true
		}
	}
	return "", false
}

// String is part of cli.ValueSource.
func (v *eventservValue) String() string { return "pg_eventserv's " + eventservFlags[v.key] }

// GoString is part of cli.ValueSource.
func (v *eventservValue) GoString() string { return "eventservValue(" + v.key + ")" }

var _ cli.ValueSource = (*eventservValue)(nil)
