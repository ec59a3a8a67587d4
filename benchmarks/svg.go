package main

import (
	"fmt"
	"html"
	"io"
	"math"
)

// chart is a plot with logarithmic axes.
type chart struct {
	title, xLabel, yLabel string
	ticks                 []tick // of the x axis
	series                []series
}

type tick struct {
	x     float64
	label string
}

type series struct {
	name   string
	dashed bool
	points []point
}

type point struct{ x, y float64 }

const (
	chartWidth, chartHeight    = 900, 460
	marginLeft, marginRight    = 80, 290
	marginTop, marginBottom    = 50, 60
	plotWidth                  = chartWidth - marginLeft - marginRight
	plotHeight                 = chartHeight - marginTop - marginBottom
	legendLine, legendTextLead = 20, 34
)

var colours = []string{"#4c72b0", "#dd8452", "#55a868", "#8172b3", "#c44e52", "#937860", "#64b5cd"}

// writeSVG draws the chart.
func (c *chart) writeSVG(w io.Writer) error {
	p := &pen{w: w}
	xs, ys := c.ranges()
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", chartWidth, chartHeight)
	p.printf(`<rect width="100%%" height="100%%" fill="white"/>` + "\n")
	p.text(marginLeft+plotWidth/2, marginTop/2, "middle", c.title, `font-size="16"`)
	p.text(marginLeft+plotWidth/2, chartHeight-15, "middle", c.xLabel, "")
	p.text(marginLeft, marginTop-10, "middle", c.yLabel, "")

	for y := ys.low; y <= ys.high*1.001; y *= 10 {
		at := marginTop + plotHeight*(1-ys.place(y))
		p.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`+"\n", marginLeft, at, marginLeft+plotWidth, at)
		p.text(marginLeft-8, at+4, "end", formatCount(y), "")
	}
	for _, t := range c.ticks {
		at := marginLeft + plotWidth*xs.place(t.x)
		p.printf(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>`+"\n", at, marginTop, at, marginTop+plotHeight)
		p.text(at, marginTop+plotHeight+20, "middle", t.label, "")
	}
	for i, s := range c.series {
		c.drawSeries(p, i, s, xs, ys)
	}
	p.printf("</svg>\n")
	return p.err
}

func (c *chart) drawSeries(p *pen, i int, s series, xs, ys scale) {
	colour := colours[i%len(colours)]
	dash := ""
	if s.dashed {
		dash = ` stroke-dasharray="6 4"`
	}
	p.printf(`<polyline fill="none" stroke="%s" stroke-width="2"%s points="`, colour, dash)
	for _, pt := range s.points {
		p.printf("%.1f,%.1f ", marginLeft+plotWidth*xs.place(pt.x), marginTop+plotHeight*(1-ys.place(pt.y)))
	}
	p.printf(`"/>` + "\n")
	for _, pt := range s.points {
		p.printf(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", marginLeft+plotWidth*xs.place(pt.x), marginTop+plotHeight*(1-ys.place(pt.y)), colour)
	}
	x, y := marginLeft+plotWidth+20, marginTop+10+i*legendLine
	p.printf(`<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="2"%s/>`+"\n", x, y, x+legendTextLead-8, y, colour, dash)
	p.text(float64(x+legendTextLead), float64(y+4), "start", s.name, "")
}

// ranges are those of the ticks, and the powers of ten around all values.
func (c *chart) ranges() (xs, ys scale) {
	xs, ys = scale{math.Inf(1), 0}, scale{math.Inf(1), 0}
	for _, t := range c.ticks {
		xs = xs.with(t.x)
	}
	for _, s := range c.series {
		for _, pt := range s.points {
			ys = ys.with(pt.y)
		}
	}
	const inset = 1.3 // so that no point stands on the edge
	xs.low, xs.high = xs.low/inset, xs.high*inset
	ys.low, ys.high = math.Pow(10, math.Floor(math.Log10(ys.low))), math.Pow(10, math.Ceil(math.Log10(ys.high)))
	return xs, ys
}

// scale is a logarithmic axis.
type scale struct{ low, high float64 }

func (s scale) with(v float64) scale { return scale{min(s.low, v), max(s.high, v)} }

// place is where a value stands between low (0) and high (1).
func (s scale) place(v float64) float64 {
	if s.high <= s.low {
		return 0.5
	}
	return math.Log(v/s.low) / math.Log(s.high/s.low)
}

// pen writes until the first error, which it keeps.
type pen struct {
	w   io.Writer
	err error
}

func (p *pen) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *pen) text(x, y float64, anchor, text, attributes string) {
	p.printf(`<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, attributes, html.EscapeString(text))
}
