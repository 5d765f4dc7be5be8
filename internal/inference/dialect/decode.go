package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// FieldError says which part of a body is wrong. Param is its path: "messages[2].role"; empty for a body that is no JSON object at all.
type FieldError struct {
	Param   string
	Message string
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.Param == "" {
		return e.Message
	}
	return e.Param + ": " + e.Message
}

// Decode reads a JSON object into the struct that v points to. Unlike encoding/json it matches keys exactly, so that "Model" is not "model". The error is a *FieldError.
func Decode(body []byte, v any) error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '{' {
		return &FieldError{Message: "the body is not a JSON object"}
	}
	if !json.Valid(body) {
		var raw json.RawMessage
		err := json.Unmarshal(body, &raw)
		if syn, ok := errors.AsType[*json.SyntaxError](err); ok {
			return &FieldError{Message: fmt.Sprintf("the body is not valid JSON: %s at byte %d", syn.Error(), syn.Offset)}
		}
		return &FieldError{Message: "the body is not valid JSON"}
	}
	return decode(body, reflect.ValueOf(v).Elem(), "")
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// decode walks structs, lists and pointers itself and leaves everything else to encoding/json.
func decode(raw []byte, v reflect.Value, path string) error {
	if v.Kind() == reflect.Pointer && !v.Type().Implements(unmarshaler) {
		if bytes.Equal(raw, []byte("null")) {
			v.SetZero()
			return nil
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return decode(raw, v.Elem(), path)
	}
	custom := v.Type().Implements(unmarshaler) || v.CanAddr() && v.Addr().Type().Implements(unmarshaler)
	switch {
	case custom:
	case v.Kind() == reflect.Struct:
		return decodeStruct(raw, v, path)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		return decodeList(raw, v, path)
	}
	if err := json.Unmarshal(raw, v.Addr().Interface()); err != nil {
		if fe, ok := errors.AsType[*FieldError](err); ok {
			return &FieldError{Param: path, Message: fe.Message}
		}
		return &FieldError{Param: path, Message: "must be " + kindName(v.Type())}
	}
	return nil
}

func decodeStruct(raw []byte, v reflect.Value, path string) error {
	if bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return &FieldError{Param: path, Message: "must be an object"}
	}
	return decodeFields(m, v, path)
}

func decodeFields(m map[string]json.RawMessage, v reflect.Value, path string) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			if err := decodeFields(m, v.Field(i), path); err != nil {
				return err
			}
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		value, ok := m[name]
		if !ok {
			continue
		}
		at := name
		if path != "" {
			at = path + "." + name
		}
		if err := decode(value, v.Field(i), at); err != nil {
			return err
		}
	}
	return nil
}

func decodeList(raw []byte, v reflect.Value, path string) error {
	if bytes.Equal(raw, []byte("null")) {
		v.SetZero()
		return nil
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return &FieldError{Param: path, Message: "must be a list"}
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := decode(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	v.Set(out)
	return nil
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint64:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	default:
		return "an object"
	}
}
