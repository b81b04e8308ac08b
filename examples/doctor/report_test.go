package main

// index returns each check's verdict and what was found, by "host/CHECK" and
// "NAME/CHECK".
func (r *report) index() (verdicts map[string]verdict, text map[string]string) {
	verdicts, text = map[string]verdict{}, map[string]string{}
	add := func(of string, fs []finding) {
		for _, f := range fs {
			verdicts[of+"/"+f.Check] = f.Verdict
			text[of+"/"+f.Check] = f.Found + " -> " + f.Change
		}
	}
	add("host", r.Host)
	for _, d := range r.Domains {
		add(d.Name, d.Findings)
	}
	return verdicts, text
}
