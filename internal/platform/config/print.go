package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Redacted stands where a secret is set.
const Redacted = "***"

// Print writes the effective configuration as YAML, secrets as ***.
func Print(w io.Writer, src any) error {
	v := reflect.New(reflect.TypeOf(src)).Elem()
	v.Set(reflect.ValueOf(src))
	var open []string
	var err error
	walk(v, "", func(k key) {
		parts := strings.Split(k.path, ".")
		sections, name := parts[:len(parts)-1], parts[len(parts)-1]
		for i, s := range sections {
			if i < len(open) && open[i] == s {
				continue
			}
			open = append(open[:min(i, len(open))], s)
			if _, e := fmt.Fprintf(w, "%s%s:\n", strings.Repeat("  ", i), s); e != nil {
				err = e
			}
		}
		open = open[:len(sections)]
		if _, e := fmt.Fprintf(w, "%s%s: %s\n", strings.Repeat("  ", len(sections)), name, show(k)); e != nil {
			err = e
		}
	})
	return err
}

func show(k key) string {
	switch {
	case k.secret && !k.value.IsZero():
		return Redacted
	case k.value.Kind() == reflect.Slice:
		parts := make([]string, k.value.Len())
		for i := range parts {
			parts[i] = fmt.Sprint(k.value.Index(i).Interface())
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case k.value.Kind() == reflect.String:
		return fmt.Sprintf("%q", k.value.String())
	}
	return fmt.Sprint(k.value.Interface())
}

// Reference writes the reference page: key, environment variable, default and manual text of every key of the defaults in src.
func Reference(w io.Writer, src any) error {
	v := reflect.New(reflect.TypeOf(src)).Elem()
	v.Set(reflect.ValueOf(src))
	_, err := io.WriteString(w, "# Configuration\n\nGenerated from the program (`make gen`). A value comes from, later wins: the default, the YAML file given with `--config`, the environment, `--set key=value`.\n\n"+
		"| key | environment | default | meaning |\n| --- | --- | --- | --- |\n")
	walk(v, "", func(k key) {
		if err != nil {
			return
		}
		if k.doc == "" {
			err = fmt.Errorf("config: %s has no doc tag", k.path)
			return
		}
		_, err = fmt.Fprintf(w, "| `%s` | `%s` | `%s` | %s |\n", k.path, EnvName(k.path), show(k), k.doc)
	})
	return err
}
