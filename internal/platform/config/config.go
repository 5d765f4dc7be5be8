// Package config fills one struct from defaults, a YAML file, environment variables and flags, in this order, and prints it again: as the effective configuration (secrets redacted) and as the reference page.
//
// A module's configuration is a plain struct: `yaml:"name"` names the key, `doc:"..."` is the user's manual, `secret:"true"` keeps the value out of every print. The environment name of `gateway.body_limit` is
// MAAS_GATEWAY_BODY_LIMIT. Unknown keys are errors with a suggestion. This is the only package that reads the environment.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"maas/internal/platform/fault"
)

// ErrInvalid lists everything that is wrong with a configuration.
var ErrInvalid = fault.New(fault.Invalid, "config.invalid", "the configuration has faults")

// EnvPrefix begins the name of every environment variable that is read.
const EnvPrefix = "MAAS_"

// Source says where a value came from.
type Source struct {
	File string            // YAML file, "" = none; a missing file is an error
	Env  []string          // "NAME=value", as os.Environ gives; nil = the process's own
	Set  map[string]string // dotted key -> value: flags
}

// Environ returns the process's environment: the one place where it is read.
func Environ() []string { return os.Environ() }

// Env returns one variable of the process's environment, for the few that are not configuration keys (MAAS_URL and MAAS_TOKEN of the command line client).
func Env(name string) string { return os.Getenv(name) }

// Load changes *dst, which holds the defaults, by file, environment and flags. All faults are collected into one ErrInvalid.
func Load(dst any, src Source) error {
	v := reflect.ValueOf(dst).Elem()
	keys := map[string]reflect.Value{}
	walk(v, "", func(k key) { keys[k.path] = k.value })
	var faults []fault.Field
	if src.File != "" {
		faults = append(faults, loadFile(keys, src.File)...)
	}
	env := src.Env
	if env == nil {
		env = os.Environ()
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		for path, field := range keys {
			if EnvName(path) == name {
				if err := set(field, value); err != nil {
					faults = append(faults, fault.Field{Name: name, Code: "type", Message: err.Error()})
				}
			}
		}
	}
	for _, path := range sortedKeys(src.Set) {
		field, ok := keys[path]
		if !ok {
			faults = append(faults, unknown(keys, path))
			continue
		}
		if err := set(field, src.Set[path]); err != nil {
			faults = append(faults, fault.Field{Name: path, Code: "type", Message: err.Error()})
		}
	}
	if len(faults) > 0 {
		return ErrInvalid.WithFields(faults...)
	}
	return nil
}

// EnvName returns the environment variable of a dotted key.
func EnvName(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

func loadFile(keys map[string]reflect.Value, file string) []fault.Field {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return []fault.Field{{Name: "config", Code: "not_found", Message: "there is no file " + file}}
	}
	if err != nil {
		return []fault.Field{{Name: "config", Code: "not_found", Message: err.Error()}}
	}
	var tree map[string]any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		return []fault.Field{{Name: file, Code: "format", Message: yaml.FormatError(err, false, true)}}
	}
	var faults []fault.Field
	flatten(tree, "", func(path string, value any) {
		field, ok := keys[path]
		if !ok {
			faults = append(faults, unknown(keys, path))
			return
		}
		if err := setAny(field, value); err != nil {
			faults = append(faults, fault.Field{Name: path, Code: "type", Message: err.Error()})
		}
	}, keys)
	return faults
}

// flatten calls f for each leaf of a YAML tree. A mapping is a leaf where the struct has a value of that name.
func flatten(tree map[string]any, prefix string, f func(string, any), keys map[string]reflect.Value) {
	for _, k := range sortedKeys(tree) {
		path := prefix + k
		if sub, ok := tree[k].(map[string]any); ok {
			if _, leaf := keys[path]; !leaf {
				flatten(sub, path+".", f, keys)
				continue
			}
		}
		f(path, tree[k])
	}
}

func setAny(field reflect.Value, value any) error {
	if list, ok := value.([]any); ok {
		parts := make([]string, len(list))
		for i, x := range list {
			parts[i] = fmt.Sprint(x)
		}
		if field.Kind() != reflect.Slice {
			return errors.New("takes one value, not a list")
		}
		field.Set(reflect.ValueOf(parts).Convert(field.Type()))
		return nil
	}
	if value == nil {
		return nil
	}
	if _, ok := value.(map[string]any); ok {
		return errors.New("takes a value, not a section")
	}
	return set(field, fmt.Sprint(value))
}

var durationType = reflect.TypeFor[time.Duration]()

func set(field reflect.Value, s string) error {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](field.Addr()); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch {
	case field.Type() == durationType:
		d, err := time.ParseDuration(s)
		if err != nil {
			return errors.New(`takes a duration such as "30s" or "15m"`)
		}
		field.SetInt(int64(d))
	case field.Kind() == reflect.String:
		field.SetString(s)
	case field.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("takes true or false")
		}
		field.SetBool(b)
	case field.CanInt():
		n, err := parseInt(s)
		if err != nil || field.OverflowInt(n) {
			return errors.New(`takes a whole number (or a size such as "64MiB")`)
		}
		field.SetInt(n)
	case field.CanFloat():
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return errors.New("takes a number")
		}
		field.SetFloat(f)
	case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.String:
		var parts []string
		for p := range strings.SplitSeq(s, ",") {
			if p = strings.TrimSpace(p); p != "" {
				parts = append(parts, p)
			}
		}
		field.Set(reflect.ValueOf(parts).Convert(field.Type()))
	default:
		return fmt.Errorf("has a type that configuration cannot hold: %s", field.Type())
	}
	return nil
}

// parseInt reads decimal integers and binary sizes: 512, 64KiB, 2MiB, 8GiB.
func parseInt(s string) (int64, error) {
	for i, unit := range [...]string{"KiB", "MiB", "GiB", "TiB"} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			v, err := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			shift := 10 * (i + 1)
			if err == nil && (v > 1<<(62-shift) || v < 0) {
				err = strconv.ErrRange
			}
			return v << shift, err
		}
	}
	return strconv.ParseInt(s, 10, 64)
}

type key struct {
	path, doc string
	secret    bool
	value     reflect.Value
}

// walk calls f for every leaf of the struct v in the order of its fields.
func walk(v reflect.Value, prefix string, f func(key)) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "" || name == "-" || !sf.IsExported() {
			continue
		}
		_, text := reflect.TypeAssert[encoding.TextUnmarshaler](v.Field(i).Addr())
		if sf.Type.Kind() == reflect.Struct && !text {
			walk(v.Field(i), prefix+name+".", f)
			continue
		}
		f(key{prefix + name, sf.Tag.Get("doc"), sf.Tag.Get("secret") == "true", v.Field(i)})
	}
}

func unknown(keys map[string]reflect.Value, path string) fault.Field {
	f := fault.Field{Name: path, Code: "unknown", Message: "there is no such key"}
	best, distance := "", len(path)/2+1
	for k := range keys {
		if d := editDistance(path, k); d < distance || d == distance && k < best {
			best, distance = k, d
		}
	}
	if best != "" {
		f.Message += "; did you mean " + best + "?"
	}
	return f
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
