package pghub

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// appendJSON appends value as compact JSON. The error wraps ErrValue.
func appendJSON(dst []byte, value any) ([]byte, error) {
	if s, ok := value.(string); ok {
		if isPlain(s) {
			return append(append(append(dst, '"'), s...), '"'), nil
		}
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("%w: a string is not valid UTF-8", ErrValue)
		}
	}
	start := len(dst)
	w := appendWriter{dst}
	enc := json.NewEncoder(&w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrValue, err)
	}
	b := w.b[:len(w.b)-1] // Encode ends with a newline
	// The encoder writes \ufffd for bytes that are not UTF-8, and hardly for anything else.
	if bytes.Contains(b[start:], []byte(`\ufffd`)) && hasInvalidString(reflect.ValueOf(value), 0) {
		return nil, fmt.Errorf("%w: a string in a %T is not valid UTF-8", ErrValue, value)
	}
	return b, nil
}

// isPlain reports whether a string stands for itself between quotes.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func appendJSONString(dst []byte, s string) []byte {
	dst, err := appendJSON(dst, s)
	if err != nil { // a topic that was subscribed to has been checked
		panic(err)
	}
	return dst
}

type appendWriter struct{ b []byte }

func (w *appendWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// hasInvalidString looks for a string that is not UTF-8 in what the encoder has just written without error.
func hasInvalidString(v reflect.Value, depth int) bool {
	const deepest = 2 * maxPayload
	if depth > deepest || !v.IsValid() {
		return false
	}
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		return hasInvalidString(v.Elem(), depth+1)
	}
	if m, ok := implements[json.Marshaler](v); ok {
		return marshalsInvalidString(v, m)
	}
	if m, ok := implements[encoding.TextMarshaler](v); ok {
		text, err := m.MarshalText()
		return err == nil && !utf8.Valid(text)
	}
	switch v.Kind() {
	case reflect.String:
		return !utf8.ValidString(v.String())
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			isWritten := (field.IsExported() || field.Anonymous) && field.Tag.Get("json") != "-"
			if isWritten && hasInvalidString(v.Field(i), depth+1) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if hasInvalidString(v.Index(i), depth+1) {
				return true
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if isInvalidKey(it.Key()) || hasInvalidString(it.Value(), depth+1) {
				return true
			}
		}
	}
	return false
}

// isInvalidKey judges a key of a map: the encoder asks no key for its JSON, and no string for its text.
func isInvalidKey(key reflect.Value) bool {
	if key.Kind() == reflect.String {
		return !utf8.ValidString(key.String())
	}
	if key.Kind() == reflect.Pointer && key.IsNil() {
		return false
	}
	m, ok := implements[encoding.TextMarshaler](key)
	if !ok {
		return false
	}
	text, err := m.MarshalText()
	return err == nil && !utf8.Valid(text)
}

// marshalsInvalidString judges a value that writes its own JSON. Text that is JSON already, such as a [json.RawMessage], may
// have the escape; in anything else it comes from an encoder that has met a string which is not UTF-8.
func marshalsInvalidString(v reflect.Value, m json.Marshaler) bool {
	switch {
	case v.Kind() == reflect.String:
		return !utf8.ValidString(v.String())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return !utf8.Valid(v.Bytes())
	}
	text, err := m.MarshalJSON()
	return err == nil && bytes.Contains(text, []byte(`\ufffd`))
}

// implements returns a value, or what points to it, as the encoder takes it.
func implements[T any](v reflect.Value) (m T, ok bool) {
	if !v.CanInterface() {
		return m, false
	}
	if m, ok = v.Interface().(T); !ok && v.CanAddr() {
		m, ok = v.Addr().Interface().(T)
	}
	return m, ok
}
