package edit

import (
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strconv"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/template"
)

// Check reports what is wrong with the lists of one part of a message: names
// that nameFault gives a reason against, and literals that are not of their type.
// The paths of the faults are those of Kong's schema: add.headers[0].
func (l *Lists) Check(r *config.Reporter, part string, nameFault func(name string) error) {
	for i, name := range l.Remove {
		if err := nameFault(name); err != nil {
			r.Faultf(at("remove", part, i), "%v", err)
		}
	}
	l.each(func(op string, settings []Setting, types []Type) {
		if len(types) > len(settings) {
			r.Faultf(op+".json_types", "more types than values")
		}
		for i := range settings {
			name, value := settings[i].split()
			err := nameFault(name)
			if err == nil && op == "rename" && template.Constant(value) {
				if err = NameFault(value); part == "headers" {
					err = nameFault(value)
				}
			}
			if err == nil && i < len(types) && template.Constant(value) {
				err = types[i].fault(value)
			}
			if err != nil {
				r.Faultf(at(op, part, i), "%v", err)
			}
		}
	})
}

func (l *Lists) each(f func(op string, settings []Setting, types []Type)) {
	f("rename", l.Rename, nil)
	f("replace", l.Replace, l.ReplaceTypes)
	f("add", l.Add, l.AddTypes)
	f("append", l.Append, l.AppendTypes)
}

func at(op, part string, i int) string { return op + "." + part + "[" + strconv.Itoa(i) + "]" }

func (t Type) fault(text string) error {
	switch {
	case t == NumberType && !isNumber([]byte(text)):
		return fmt.Errorf("%q is not a number", text)
	case t == BooleanType && text != "true" && text != "false":
		return fmt.Errorf("%q is not a boolean", text)
	}
	return nil
}

// WarnHeaders warns of rules that have no effect: on the fields that frame a
// message and, for requests, on Host by anything but replace.
func (l *Lists) WarnHeaders(r *config.Reporter, request bool) {
	warn := func(op, name string, i int) {
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case slices.Contains(framing, name):
			r.Warnf(at(op, "headers", i), "ignored: the gateway itself says where a message ends")
		case request && name == "Host" && op != "replace":
			r.Warnf(at(op, "headers", i), "ignored: Host is changed by replace.headers only")
		}
	}
	for i, name := range l.Remove {
		warn("remove", name, i)
	}
	l.each(func(op string, settings []Setting, _ []Type) {
		for i := range settings {
			name, value := settings[i].split()
			warn(op, name, i)
			if op == "rename" {
				warn(op, value, i)
			}
		}
	})
}

// HeaderFault says why name cannot be a header's, nil if it can.
func HeaderFault(name string) error {
	if !IsToken(name) {
		return fmt.Errorf("%q is not a header name", name)
	}
	return nil
}

// NameFault says why name cannot be an argument's.
func NameFault(name string) error {
	if name == "" {
		return errors.New("expected a name")
	}
	return nil
}

// PathFault says why name cannot lead into JSON.
func PathFault(dotsInKeys bool) func(name string) error {
	return func(name string) error {
		if dotsInKeys {
			return NameFault(name)
		}
		_, err := ParsePath(name)
		return err
	}
}
