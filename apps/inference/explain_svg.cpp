#include <fmt/format.h>

#include "apps/inference/explain_canvas.h"
#include "apps/report/report_text.h"

namespace onpa::apps::figure {
namespace {

std::string hex(Rgb c) {
  return fmt::format("#{:02x}{:02x}{:02x}", c.r, c.g, c.b);
}

std::string number(double value) {
  std::string out = fmt::format("{:.2f}", value);
  while (out.ends_with('0')) out.pop_back();
  if (out.ends_with('.')) out.pop_back();
  return out == "-0" ? "0" : out;
}

const char* name_of(Anchor anchor) {
  switch (anchor) {
    case Anchor::kStart:
      return "start";
    case Anchor::kMiddle:
      return "middle";
    default:
      return "end";
  }
}

class SvgCanvas : public Canvas {
 public:
  SvgCanvas(double width, double height, const std::string& label) {
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
        "{1}\" role=\"img\" aria-label=\"{2}\" font-family=\"Helvetica, Arial, sans-serif\">\n",
        number(width), number(height), report::escape(label));
    rect({0, 0, width, height}, {255, 255, 255});
  }

  void rect(const Box& box, Rgb fill) override {
    out_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
                        number(box.left), number(box.top), number(box.width), number(box.height),
                        hex(fill));
  }
  void line(Point from, Point to, double width, Rgb color) override {
    out_ += fmt::format(
        "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" stroke-width=\"{}\"/>\n",
        number(from.x), number(from.y), number(to.x), number(to.y), hex(color), number(width));
  }
  void polygon(const std::vector<Point>& corners, Rgb fill) override {
    out_ += "<polygon points=\"";
    for (const Point& p : corners) out_ += number(p.x) + "," + number(p.y) + " ";
    out_ += fmt::format("\" fill=\"{}\"/>\n", hex(fill));
  }
  void text(Point at, Anchor anchor, const TextStyle& style, const std::string& text) override {
    out_ += fmt::format(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"{}\" font-size=\"{}\"{} fill=\"{}\">{}</text>\n",
        number(at.x), number(at.y), name_of(anchor), number(style.size),
        style.bold ? " font-weight=\"bold\"" : "", hex(style.color), report::escape(text));
  }
  void image(const Box& box, const Raster& raster) override {
    out_ += fmt::format(
        "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" "
        "style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>\n",
        number(box.left), number(box.top), number(box.width), number(box.height),
        report::base64(encode_png(raster)));
  }
  std::string finish() override { return out_ + "</svg>\n"; }

 private:
  std::string out_;
};

}  // namespace

std::unique_ptr<Canvas> svg_canvas(double width, double height, const std::string& label) {
  return std::make_unique<SvgCanvas>(width, height, label);
}

}  // namespace onpa::apps::figure
