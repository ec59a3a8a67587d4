package main

var wireArea = area{
	name:     "wire",
	folder:   "internal/pgwire",
	packages: []string{"internal/pgwire"},
	mutants: []mutant{
		sampled(one("the longest frame refused", "pgwire.go", "if length < 4 || length > MaxFrame {", "if length < 4 || length >= MaxFrame {", "TestReaderRefusesLengths")),
		one("frames longer than the longest", "pgwire.go", "if length < 4 || length > MaxFrame {", "if length < 4 || length > MaxFrame+1 {", "TestReaderRefusesLengths"),
		one("a length that is less than itself", "pgwire.go", "if length < 4 || length > MaxFrame {", "if length < 3 || length > MaxFrame {", "TestReaderRefusesLengths"),
		one("a frame that is not whole", "pgwire.go", "\tif len(b) < end {\n\t\treturn Frame{}, false, nil\n\t}\n", "\tend = min(end, len(b))\n", "TestReader"),
		one("a buffer that does not grow", "pgwire.go", "need > len(r.buf) {", "need > MaxFrame {", "TestReader"),
		one("a buffer that stays large", "pgwire.go", "\t} else if len(r.buf) > bufferSize && r.w < bufferSize && need <= bufferSize {\n", "\t} else if false {\n", "TestReaderGivesRoomBack"),
		one("room given back while a frame needs it", "pgwire.go", "r.w < bufferSize && need <= bufferSize {", "r.w < bufferSize {", "TestReaderKeepsRoomForAFrame"),
		one("unread bytes lost", "pgwire.go", "\t\tr.w = copy(r.buf, r.buf[r.r:r.w])\n", "\t\tr.w = 0\n", "TestReaderSplits"),
		one("an error before the bytes that came with it", "pgwire.go", "\tif n > 0 {\n\t\treturn nil // an error comes again with the next read\n\t}\n", "", "TestReaderGivesWhatCameWithAnError"),
		one("more notifications than there is room for", "pgwire.go", "for len(dst) < cap(dst) && r.r < r.w", "for r.r < r.w", "TestReaderAllocates"),
		one("notifications before an error lost", "pgwire.go", "\t\tn, err := parseNotification(f.Body, topic)\n\t\tif err != nil {\n\t\t\treturn dst, err\n", "\t\tn, err := parseNotification(f.Body, topic)\n\t\tif err != nil {\n\t\t\treturn nil, err\n", "TestReaderNotifications"),
		one("other frames taken for notifications", "pgwire.go", "r.r < r.w && r.buf[r.r] == NotificationResponse {", "r.r < r.w {", "TestReaderNotifications"),
		one("a notification without its end", "pgwire.go", "if len(payload) == 0 || bytes", "if len(payload) != 0 && bytes", "TestParseNotification"),
		one("a payload with NUL within", "pgwire.go", "bytes.IndexByte(payload, 0) != len(payload)-1", "payload[len(payload)-1] != 0", "TestParseNotification"),
		one("a payload that shares its room", "pgwire.go", "payload[: len(payload)-1 : len(payload)-1]", "payload[:len(payload)-1]", "TestParsedTextsEndWhereTheyEnd"),
		one("a channel that shares its room", "pgwire.go", "text[:end:end]", "text[:end]", "TestParsedTextsEndWhereTheyEnd"),
		one("quotes that are not doubled", "pgwire.go", "\t\tif name[i] == '\"' {\n\t\t\tdst = append(dst, '\"')\n\t\t}\n", "", "TestAppendIdentifier"),
		one("a query without its end", "pgwire.go", "uint32(4+len(sql)+1))", "uint32(4+len(sql)))", "TestAppendMessages"),
		sampled(one("a notification with a short body", "pgwire.go", "\tif len(body) < 4 {\n", "\tif len(body) < 3 {\n", "TestParseNotification")),
	},
}
