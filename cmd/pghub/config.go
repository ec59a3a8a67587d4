package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v3"
)

// configFile is the file that --config names, read when the first flag looks into it.
type configFile struct {
	path   string // set by the flag before the others ask
	loaded bool
	values map[string]string // by name of the flag, that of a subcommand as serve.topics
	err    error
}

// sources are where a flag takes its value from when it is not given: the environment, then the file. The variable is
// PGHUB_ and the flag's name, unless others are named.
func (f *configFile) sources(key string, variables ...string) cli.ValueSourceChain {
	if len(variables) == 0 {
		_, name, of := strings.Cut(key, ".")
		if !of {
			name = key
		}
		variables = []string{"PGHUB_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
	}
	var chain []cli.ValueSource
	for _, v := range variables {
		chain = append(chain, cli.EnvVar(v))
	}
	chain = append(chain, &fileValue{f, key})
	if _, is := eventservFlags[key]; is {
		chain = append(chain, &eventservValue{f, key})
	}
	return cli.NewValueSourceChain(chain...)
}

// fileValue is one setting in the file.
type fileValue struct {
	file *configFile
	key  string
}

// Lookup is part of cli.ValueSource.
func (v *fileValue) Lookup() (string, bool) {
	v.file.load()
	text, ok := v.file.values[v.key]
	return text, ok
}

// String is part of cli.ValueSource.
func (v *fileValue) String() string { return fmt.Sprintf("%s in the file of --config", v.key) }

// GoString is part of cli.ValueSource.
func (v *fileValue) GoString() string { return fmt.Sprintf("fileValue(%q)", v.key) }

func (f *configFile) load() {
	if f.loaded || f.path == "" {
		return
	}
	f.loaded = true
	text, err := os.ReadFile(f.path)
	if err != nil {
		f.err = err
		return
	}
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		f.err = fmt.Errorf("%s: %w", f.path, err)
		return
	}
	f.values = make(map[string]string)
	f.flatten("", tree)
}

// flatten turns tables into names with dots, and values into what a flag would be given.
func (f *configFile) flatten(prefix string, tree map[string]any) {
	for name, value := range tree {
		switch v := value.(type) {
		case map[string]any:
			f.flatten(prefix+name+".", v)
		case []any:
			parts := make([]string, len(v))
			for i, part := range v {
				parts[i] = fmt.Sprint(part)
			}
			f.values[prefix+name] = strings.Join(parts, ",")
		default:
			f.values[prefix+name] = fmt.Sprint(v)
		}
	}
}

// knownVariables are the variables of the environment that settings are read from.
func knownVariables(root *cli.Command) (names []string) {
	flags := slices.Clone(root.Flags)
	for _, sub := range root.Commands {
		flags = append(flags, sub.Flags...)
	}
	for _, flag := range flags {
		if documented, is := flag.(cli.DocGenerationFlag); is {
			names = append(names, documented.GetEnvVars()...)
		}
	}
	return names
}

// unknownVariables are those that look like settings and are none: a misspelt limit is no limit. It is no error, for where
// containers run they may be set for a service of this name.
func unknownVariables(root *cli.Command, environment []string) (names []string) {
	known := knownVariables(root)
	for _, setting := range environment {
		name, _, _ := strings.Cut(setting, "=")
		if strings.HasPrefix(name, "PGHUB_") && !slices.Contains(known, name) {
			names = append(names, name)
		}
	}
	return names
}

// check reports a file that cannot be read, or that says what no flag knows: a misspelt limit is no limit.
func (f *configFile) check(root *cli.Command) error {
	f.load()
	if f.err != nil {
		return f.err
	}
	var known []string
	for _, flag := range root.Flags {
		known = append(known, flag.Names()...)
	}
	for _, sub := range root.Commands {
		for _, flag := range sub.Flags {
			for _, name := range flag.Names() {
				known = append(known, sub.Name+"."+name)
			}
		}
	}
	for key := range f.values {
		if !slices.Contains(known, key) && !isEventserv(key) {
			return fmt.Errorf("%s: there is no setting %q", f.path, key)
		}
	}
	return nil
}
