package main

var codecArea = area{
	name:     "codec",
	folder:   ".",
	packages: []string{"."},
	mutants: []mutant{
		// What is sent.
		one("keys joined by blanks", "codec.go", "\t\t\tdst = append(dst, ',')\n\t\t}\n\t\tdst = strconv", "\t\t\tdst = append(dst, ' ')\n\t\t}\n\t\tdst = strconv", "TestKeyValueCodecWire"),
		one("two spellings of no value", "codec.go", "if string(dst[n:]) == \":null\" {", "if false {", "TestAppendValues"),
		one("keys without a place", "codec.go", "\tif len(key) > 0 {\n\t\treturn nil, fmt.Errorf(\"%w: JSONCodec", "\tif len(key) > 1 {\n\t\treturn nil, fmt.Errorf(\"%w: JSONCodec", "TestJSONCodec"),
		one("raw keys without a place", "codec.go", "\tif len(key) > 0 {\n\t\treturn nil, fmt.Errorf(\"%w: RawCodec", "\tif len(key) > 1 {\n\t\treturn nil, fmt.Errorf(\"%w: RawCodec", "TestRawCodec"),
		one("letters that HTML escapes", "json.go", "\tenc.SetEscapeHTML(false)\n", "", "TestKeyValueCodecWire"),
		one("bytes that are not UTF-8 sent", "json.go", "\t\tif !utf8.ValidString(s) {\n\t\t\treturn nil, fmt.Errorf(\"%w: a string is not valid UTF-8\", ErrValue)\n\t\t}\n", "\t\tif !utf8.ValidString(s) {\n\t\t\treturn append(append(append(dst, '\"'), s...), '\"'), nil\n\t\t}\n", "TestAppendRefuses"),
		sampled(one("bytes that are not UTF-8 replaced", "json.go", "&& hasInvalidString(reflect.ValueOf(value), 0)", "&& false", "TestAppendRefuses")),
		one("the replacement character refused", "json.go", "&& hasInvalidString(reflect.ValueOf(value), 0)", "", "TestAppendValues"),
		one("quotes that stand for themselves", "json.go", "c >= utf8.RuneSelf || c == '\"' || c == '\\\\'", "c >= utf8.RuneSelf || c == '\\\\'", "TestKeyValueCodecWire"),
		one("control characters that stand for themselves", "json.go", "if c := s[i]; c < ' ' ||", "if c := s[i]; c == 0 ||", "TestAppendEachCharacter"),
		one("names of maps not looked at", "json.go", "isInvalidKey(it.Key()) || ", "", "TestAppendRefuses"),
		one("fields not looked at", "json.go", "\t\tfor i := range v.NumField() {", "\t\tfor i := range 0 * v.NumField() {", "TestAppendRefuses"),
		one("arrays not looked at", "json.go", "case reflect.Slice, reflect.Array:", "case reflect.Slice:", "TestAppendRefuses"),
		one("a cause that is lost", "json.go", "fmt.Errorf(\"%w: %w\", ErrValue, err)", "fmt.Errorf(\"%w: %v\", ErrValue, err)", "TestAppendKeepsTheCause"),
		one("a newline behind the value", "json.go", "b := w.b[:len(w.b)-1]", "b := w.b[:len(w.b)]", "TestKeyValueCodecWire"),

		// Equal events.
		one("null padded twice", "codec.go", "return payload + \":null\" + blanks(n-1)", "return payload + \":null\" + blanks(0*n)", "TestPad"),
		one("padding that repeats itself", "codec.go", "b = append(b, \" \\t\\n\\r\"[(n-1)%4])", "b = append(b, \" \\t\\n\\n\"[(n-1)%4])", "TestPad"),
		one("one blank for each equal event", "codec.go", "for ; n > 0; n = (n - 1) / 4 {", "for ; n > 0; n-- {", "TestPad"),
		one("what others encode is padded", "codec.go", "\tcase JSONCodec:\n\t\treturn padJSON\n\t}\n\treturn nil", "\tcase JSONCodec:\n\t\treturn padJSON\n\t}\n\treturn padJSON", "TestPadLeavesOthersAlone"),

		// What arrives.
		one("no e needed", "codec.go", "if len(p) == 0 || p[0] != 'e' {", "if len(p) == 0 {", "TestKeyValueCodecRefuses"),
		one("a key that overflows", "codec.go", "\t\tif n > math.MaxInt64/10 {\n\t\t\treturn 0, nil, errKeyOverflow\n\t\t}\n", "", "TestKeyValueCodecRefuses"),
		one("the smallest key refused", "codec.go", "negative && n <= 1<<63", "negative && n < 1<<63", "TestKeyValueCodecWire"),
		one("a key one beyond the largest", "codec.go", "!negative && n <= math.MaxInt64", "!negative && n <= math.MaxInt64+1", "TestKeyValueCodecRefuses"),
		one("signs that are lost", "codec.go", "return -int64(n), b[i:], nil", "return int64(n), b[i:], nil", "TestKeyValueCodecWire"),
		sampled(one("an empty key is zero", "codec.go", "\tcase i == digits:\n\t\treturn 0, nil, errEmptyKey\n", "\tcase i == digits:\n\t\treturn 0, b[i:], nil\n", "TestKeyValueCodecRefuses")),
		one("anything behind a key", "codec.go", "\t\tcase b[0] != ',':\n\t\t\treturn nil, nil, errAfterKey\n", "", "TestKeyValueCodecRefuses"),
		one("keys that share their room", "codec.go", "\t\tcase b[0] == ':':\n\t\t\treturn keys[:len(keys):len(keys)], b[1:], nil", "\t\tcase b[0] == ':':\n\t\t\treturn keys, b[1:], nil", "TestDecodedKeysAreTheEventsOwn"),
		one("a value that shares its room", "codec.go", "\treturn b[:len(b):len(b)]\n}\n\nfunc isBlank", "\treturn b\n}\n\nfunc isBlank", "TestDecodedKeysAreTheEventsOwn"),
		one("null that is a value", "codec.go", "if len(b) == 0 || string(b) == \"null\" {", "if len(b) == 0 {", "TestKeyValueCodecTakes"),
		one("blanks before a value", "codec.go", "\tfor len(b) > 0 && isBlank(b[0]) {\n\t\tb = b[1:]\n\t}\n", "", "TestKeyValueCodecTakes"),
		one("strict that is not", "codec.go", "if c.Strict && ev.Value != nil && !json.Valid(ev.Value) {\n\t\treturn errInvalidJSON\n\t}\n\treturn nil\n}\n\n// JSONCodec", "if false {\n\t\treturn errInvalidJSON\n\t}\n\treturn nil\n}\n\n// JSONCodec", "TestStrict"),
		one("text behind the JSON", "event.go", "if _, more := dec.Token(); more != io.EOF {", "if _, more := dec.Token(); more == nil {", "TestDecodeRefuses"),
		one("digits that are lost", "event.go", "\tdec.UseNumber()\n", "", "TestDecodeKeepsDigits"),
		one("no value is an error", "event.go", "\tif value == nil {\n\t\tvalue = json.RawMessage(\"null\")\n\t}\n", "", "TestDecodeNoValue"),
		one("an advisory with a topic", "event.go", "\t\tb = append(b, \"null\"...)\n\t} else {", "\t\tb = append(b, `\"\"`...)\n\t} else {", "TestSupervisoryEvents"),
		one("a value that is not JSON in JSON", "event.go", "\tif !json.Valid(e.Value) {\n", "\tif false {\n", "TestEventMarshalJSONRefuses"),
		one("a lag that does not say how much", "event.go", "strconv.AppendUint(b, a.Dropped, 10)", "strconv.AppendUint(b, 1, 10)", "TestSupervisoryEvents"),
		sampled(one("events that share their text", "event.go", "ev.Payload = text[start:len(text):len(text)]", "ev.Payload = text[start:len(text)]", "TestEventsTogetherAreIndependent")),
		one("events that share their keys", "event.go", "ev.Key = keys[:0:keysTogether]", "ev.Key = keys[:0]", "TestEventsTogetherAreIndependent"),
		one("text of the reader's buffer", "event.go", "Payload: append([]byte{}, n.Payload...), Record", "Payload: n.Payload, Record", "TestEventsAreIndependent"),

		// Limits.
		one("topics of 64 bytes", "codec.go", "case len(topic) > maxTopic:", "case len(topic) > maxTopic+1:", "TestCheckTopic"),
		one("topics that are no UTF-8", "codec.go", "case !utf8.ValidString(topic):", "case false:", "TestCheckTopic"),
		one("payloads of 8,000 bytes", "codec.go", "case len(payload) > maxPayload:", "case len(payload) > maxPayload+1:", "TestNotifyPayloadTooLarge TestLimitsAgreeWithServer"),
		one("payloads with NUL", "codec.go", "case bytes.IndexByte(payload, 0) >= 0:", "case false:", "TestLimitsAgreeWithServer"),
		one("runs of keys of the wrong width", "change.go", "max(c.Width, 1)", "1", "TestChange"),
	},
}
