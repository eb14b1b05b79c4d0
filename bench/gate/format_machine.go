package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// writeJSON writes one object: what was found, and whether the gate is passed.
func writeJSON(w io.Writer, j *judgement) error {
	text, err := json.MarshalIndent(struct {
		Passed   bool `json:"passed"`
		Failures int  `json:"failures"`
		*judgement
	}{j.failures() == 0, j.failures(), j}, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// junitSuite is a report as CI systems read it: a test case for each comparison.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Cases    []junitCase `xml:"testcase"`
	Out      string      `xml:"system-out"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitFailure `xml:"failure"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes JUnit's XML. Notes are a case's or the suite's output.
func writeJUnit(w io.Writer, j *judgement) error {
	s := junitSuite{Name: "gate", Tests: len(j.Findings), Failures: j.failures(), Out: strings.Join(append(j.Notes, j.summary()), "\n")}
	for _, f := range j.Findings {
		c := junitCase{Class: f.Row, Name: f.Measure}
		cells := strings.Join(f.cells(), "  ")
		if f.Verdict == fail {
			c.Failure = &junitFailure{Message: f.Message, Text: cells}
		} else {
			c.Out = strings.TrimSpace(fmt.Sprintf("%s\n%s", cells, f.Message))
		}
		s.Cases = append(s.Cases, c)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(s); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}
