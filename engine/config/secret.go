package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// resolver replaces references to the environment in scalars: ${VAR}, ${VAR:-default},
// decK's ${{ env "DECK_X" }} and vault references {vault://env/name}. It works on parsed
// scalars, so what a variable holds cannot change the shape of the document.
type resolver struct {
	env    func(string) (string, bool)
	vaults map[string]vault
	used   func(value string) // called with every value put in
	failed bool               // some reference could not be replaced
}

// vault is a vault of the environment kind: a prefix to put before names.
type vault struct {
	kind   string
	prefix string
}

// variablesMax is how many variables of one file messages can name.
const variablesMax = 1000

var (
	variable = regexp.MustCompile(`\$\{\{\s*env\s+(?:"([^"]*)"|'([^']*)'|` + "`([^`]*)`" + `)\s*((?:\|\s*\w+(?:\s+\d+)?\s*)*)\}\}|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}`)
	template = regexp.MustCompile(`\$\{\{.*?\}\}`)
)

// resolve replaces the references in n and everything below it.
func (r *resolver) resolve(n *Node) Faults {
	var faults Faults
	switch {
	case n == nil:
	case n.Kind == List:
		for i, item := range n.Items {
			if more := r.resolve(item); more != nil {
				faults = append(faults, more.below("["+strconv.Itoa(i)+"]")...)
			}
		}
	case n.Kind == Map:
		for i := range n.Entries {
			key := n.Entries[i].Key
			if key == "_comment" || key == "_ignore" {
				continue
			}
			if more := r.resolve(n.Entries[i].Value); more != nil {
				faults = append(faults, more.below(key)...)
			}
		}
	case n.Type == String && !n.settled:
		n.settled = true
		if err := r.scalar(n); err != nil {
			faults = Faults{n.fault("", err.Error())}
			n.broken = true
			r.failed = true
		}
	}
	return faults
}

func (r *resolver) scalar(n *Node) error {
	if strings.HasPrefix(n.Value, "{vault://") && strings.HasSuffix(n.Value, "}") {
		value, err := r.reference(n.Value[len("{vault://") : len(n.Value)-1])
		if err != nil {
			return err
		}
		r.used(value)
		n.Value, n.secret, n.loose = value, true, true
		return nil
	}
	if !strings.Contains(n.Value, "${") {
		return nil
	}
	return r.variables(n)
}

// variables replaces ${...} and ${{...}}. Any other use of $ is left alone, such as the
// $(...) of transformer templates.
func (r *resolver) variables(n *Node) error {
	if t := template.FindString(n.Value); t != "" && variable.FindString(t) != t {
		return fmt.Errorf(`unknown template %s; expected ${{ env "DECK_NAME" }}`, t)
	}
	var (
		failure error
		typ     = String
	)
	strict := n.file != nil && n.file.strict
	written := n.Value
	matches := variable.FindAllStringSubmatchIndex(n.Value, -1)
	if matches == nil {
		return nil
	}
	whole := len(matches) == 1 && matches[0][0] == 0 && matches[0][1] == len(n.Value)
	var b strings.Builder
	last := 0
	for _, m := range matches {
		group := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return n.Value[m[2*i]:m[2*i+1]]
		}
		b.WriteString(n.Value[last:m[0]])
		last = m[1]
		var (
			value string
			err   error
		)
		if name := group(5); name != "" {
			value, err = r.variable(name, group(6))
		} else {
			value, typ, err = r.deck(group(1)+group(2)+group(3), group(4), strict)
		}
		if err != nil && failure == nil {
			failure = err
		}
		r.used(value)
		b.WriteString(value)
	}
	b.WriteString(n.Value[last:])
	if failure != nil {
		return failure
	}
	n.Value = b.String()
	m := matches[0]
	for _, g := range [...]int{5, 1, 2, 3} {
		if m[2*g] >= 0 {
			n.cameFrom(written[m[2*g]:m[2*g+1]])
			break
		}
	}
	if whole {
		n.Type = typ
		n.loose = typ == String
	}
	n.plain = false
	return nil
}

// cameFrom notes which variable a value is from.
func (n *Node) cameFrom(name string) {
	if n.file == nil {
		return
	}
	at := slices.Index(n.file.variables, name)
	if at < 0 {
		if len(n.file.variables) == variablesMax {
			return
		}
		at = len(n.file.variables)
		n.file.variables = append(n.file.variables, name)
	}
	n.from = uint16(at + 1)
}

// variable is ${name} or ${name:-default}; as in shells the default also stands in for
// an empty variable.
func (r *resolver) variable(name, fallback string) (string, error) {
	value, ok := r.env(name)
	if text, has := strings.CutPrefix(fallback, ":-"); has && value == "" {
		return text, nil
	}
	if !ok {
		return "", fmt.Errorf("environment variable %s is not set", name)
	}
	return value, nil
}

// deck is ${{ env "name" | pipe }}.
func (r *resolver) deck(name, pipes string, strict bool) (string, Type, error) {
	if strict && !strings.HasPrefix(name, "DECK_") {
		return "", String, fmt.Errorf("environment variable %s must start with DECK_", name)
	}
	value, ok := r.env(name)
	if !ok {
		return "", String, fmt.Errorf("environment variable %s is not set", name)
	}
	typ := String
	for pipe := range strings.SplitSeq(pipes, "|") {
		word, _, _ := strings.Cut(strings.TrimSpace(pipe), " ")
		var err error
		switch word {
		case "":
		case "indent": // only matters when text is put in before parsing
		case "toInt":
			_, err = strconv.ParseInt(value, 10, 64)
			typ = Int
		case "toFloat":
			_, err = strconv.ParseFloat(value, 64)
			typ = Float
		case "toBool":
			var b bool
			b, err = strconv.ParseBool(value)
			value, typ = strconv.FormatBool(b), Bool
		default:
			return "", String, fmt.Errorf("unknown pipe %q; expected one of: toInt, toFloat, toBool, indent", word)
		}
		if err != nil {
			return "", String, fmt.Errorf("environment variable %s does not fit %s", name, word)
		}
	}
	return value, typ, nil
}

// reference resolves what stands between {vault:// and }.
func (r *resolver) reference(text string) (string, error) {
	u, err := url.Parse("vault://" + text)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return "", fmt.Errorf("malformed vault reference {vault://%s}", text)
	}
	v, ok := r.vaults[u.Host]
	if !ok {
		return "", fmt.Errorf("no vault has the name or prefix %q", u.Host)
	}
	if v.kind != "env" {
		return "", fmt.Errorf("vault %q is of kind %q; only env is available", u.Host, v.kind)
	}
	resource, key, picks := strings.Cut(strings.Trim(u.Path, "/"), "/")
	prefix := v.prefix
	if u.Query().Has("prefix") {
		prefix = u.Query().Get("prefix")
	}
	name := strings.ReplaceAll(strings.ToUpper(prefix+resource), "-", "_")
	if u.Fragment == "2" {
		name += "_PREVIOUS"
	}
	value, ok := r.env(name)
	if !ok {
		return "", fmt.Errorf("environment variable %s is not set", name)
	}
	if !picks {
		return value, nil
	}
	return pick(name, value, key)
}

// pick is one member of the JSON object a variable holds.
func pick(name, value, key string) (string, error) {
	var members map[string]any
	if err := json.Unmarshal([]byte(value), &members); err != nil {
		return "", fmt.Errorf("environment variable %s is not a JSON object", name)
	}
	switch v := members[key].(type) {
	case string:
		return v, nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	default:
		return "", fmt.Errorf("environment variable %s has no key %q", name, key)
	}
}
