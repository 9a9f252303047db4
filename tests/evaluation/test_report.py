"""Plots and the report: files, order, what is escaped, what is left out, and what the page asks of nobody."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results
from PIL import Image

from elysium.evaluation.grounding import iou_histogram
from elysium.evaluation.plots import CURVE_PLOTS, curve_figure, draw_figure, iou_histogram_figure
from elysium.evaluation.report import PUBLIC_SCRIPT, PUBLIC_SCRIPT_NOTE, render_html, report_figures, write_report

THRESHOLDS = {
    "overlap": np.linspace(0, 1, 21).tolist(),
    "centre_px": list(range(51)),
    "centre_norm": np.linspace(0, 0.5, 51).tolist(),
}
PLOT_FILES = {f"{plot.key}{suffix}" for plot in CURVE_PLOTS for suffix in (".png", ".svg")}


def make_tracker(success_auc, *, kind="results", precision=50.0, sequences=None, **more):
    curves = {"success": [0.9] * 21, "precision": [0.5] * 51, "norm_precision": [0.6] * 51}
    figures = {"precision": 1.0, "norm_precision": 2.0, "ao": 3.0, "sr50": 4.0, "sr75": 5.0, "visible_frames": 9}
    sequences = {"car-1": success_auc, "car-2": 12.0} if sequences is None else sequences
    return {
        "kind": kind,
        "origin": f"from {kind}",
        "success_auc": success_auc,
        "precision": precision,
        "norm_precision": 60.0,
        "frames_per_s": None,
        "curves": curves,
        "sequences": {name: {**figures, "success_auc": auc, "frames": 1200} for name, auc in sequences.items()},
        **more,
    }


def make_report(**trackers):
    trackers = trackers or {"slow": make_tracker(41.26), "quick": make_tracker(63.44, kind="elysium")}
    return {
        "benchmark": "lasot",
        "title": "LaSOT",
        "task": "sot",
        "command": "elysium evaluate lasot",
        "elysium_version": "0.1.0",
        "protocol": {"name": "one pass", "source": "https://example.org/lasot", "rules": ["A rule.", "Another rule."]},
        "data": {"sequences": 2, "frames": 2400, "split": "test"},
        "thresholds": THRESHOLDS,
        "trackers": trackers,
    }


def make_answers(*, histogram=True):
    entry = {"origin": "a folder", "metrics": {"accuracy_50": 71.5, "mean_iou": 0.625}}
    other = {"origin": "a hub", "metrics": {"accuracy_50": 80.25, "unreadable": 3}}
    other["groups"] = {"testA": {"accuracy_50": 82.0}, "testB": {"accuracy_50": 78.5}}
    if histogram:
        other["histogram"] = iou_histogram([0.2, 0.7, 0.9])
    shared = {key: make_report()[key] for key in ("command", "elysium_version", "protocol")}
    data = {"samples": 1975, "split": "testA, testB"}
    return {"benchmark": "refcoco", "task": "rec", "data": data, "models": {"small": entry, "large": other}, **shared}


class PageReader(HTMLParser):
    """Collects the tables of a page as rows of texts, the bold texts, the ids, and addresses that would be opened."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.bold, self.ids, self.addresses, self.tags = [], [], [], [], []
        self._inside = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [value for name, value in attrs if name in ("href", "src", "xlink:href", "data", "action")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "td" in self._inside or "th" in self._inside:
            self.tables[-1][-1][-1] += data.strip("\n") if "small" not in self._inside else ""
        if "b" in self._inside:
            self.bold.append(data)


def page_of(report):
    return render_html(report, {name: draw_figure(figure)[".svg"] for name, figure in report_figures(report).items()})


def success_figure(**trackers):
    """The plot of success, of trackers with a score and a curve of their own."""
    entries = {name: {"success_auc": score, "curves": {"success": curve}} for name, (score, curve) in trackers.items()}
    return curve_figure(CURVE_PLOTS[0], THRESHOLDS["overlap"], entries, title="Success")


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_tracking_report_is_numbers_six_plots_a_page_and_a_model_index(tmp_path):
    report = make_report()
    paths = write_report(report, tmp_path / "new" / "folder")
    names = {path.name for path in paths}
    assert names == PLOT_FILES | {"report.json", "report.html", "model_index.yaml"}
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == names
    assert json.loads((tmp_path / "new" / "folder" / "report.json").read_text("utf-8")) == report


def test_a_second_report_replaces_the_first_and_the_same_report_gives_the_same_page_and_svg(tmp_path):
    write_report(make_report(gone=make_tracker(5.0)), tmp_path)
    write_report(make_report(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_report(make_report(), tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before == after
    assert b"gone" not in after["report.json"]


def test_trackers_stand_best_first_and_the_best_of_a_column_is_bold():
    page = PageReader(page_of(make_report(a=make_tracker(41.26, precision=70.0), b=make_tracker(63.44))))
    heading, first, second = page.tables[0]
    assert heading[:3] == ["tracker", "success AUC", "precision"]
    assert (first[:3], second[:3]) == (["b", "63.44", "50.00"], ["a", "41.26", "70.00"])
    assert "63.44" in page.bold and "70.00" in page.bold
    assert "41.26" not in page.bold


def test_a_page_tells_the_benchmark_the_protocol_the_data_and_how_it_was_made():
    page = page_of(make_report())
    for told in ("LaSOT", "single-object tracking", "one pass", "A rule.", "Another rule.", "2,400", "test"):
        assert told in page
    assert "<code>elysium evaluate lasot</code>" in page
    assert "elysium 0.1.0" in page


def test_a_page_asks_the_network_for_nothing():
    page = page_of(make_report())
    reader = PageReader(page)
    assert not {"link", "iframe", "object", "script"} & set(reader.tags)
    assert reader.tags.count("img") == len(CURVE_PLOTS)
    outside = [address for address in reader.addresses if not address.startswith(("#", "data:image/svg+xml;base64,"))]
    assert outside == ["https://example.org/lasot"]  # a link to click, of the protocol
    assert "default-src 'none'" in page
    assert "@import" not in page and "@font-face" not in page


def test_ids_on_a_page_are_unique_and_every_inner_link_has_its_target():
    page = page_of(make_report())
    reader = PageReader(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert {address[1:] for address in reader.addresses if address.startswith("#")} <= set(reader.ids)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "--></svg><b>"])
def test_names_given_by_users_are_text_on_the_page_and_never_markup(name):
    report = make_report(**{name: make_tracker(50.0, sequences={name: 1.0}, origin=name)})
    report |= {"benchmark": name, "command": name, "elysium_version": name}
    report["protocol"] = {"name": name, "source": "javascript:alert(1)", "rules": [name]}
    reader = PageReader(page_of(report))
    assert "script" not in reader.tags and reader.tags.count("img") == len(CURVE_PLOTS)
    assert reader.tables[0][1][0] == name
    assert not [address for address in reader.addresses if not address.startswith(("#", "data:"))]


def test_formulas_and_hidden_labels_of_matplotlib_are_plain_names_in_a_plot():
    figure = success_figure(**{"$broken_{": (50.0, [0.5] * 21), "_hidden": (40.0, [0.4] * 21)})
    assert draw_figure(figure)[".svg"].startswith(b"<?xml")
    assert legend_texts(figure) == ["50.0  $broken_{", "40.0  _hidden"]


def test_got10k_columns_show_only_where_a_tracker_has_them():
    plain = PageReader(page_of(make_report()))
    assert not {"AO", "mAO"} & set(plain.tables[0][0])
    with_ao = PageReader(page_of(make_report(a=make_tracker(50.0, ao=55.5, mao=44.4), b=make_tracker(40.0))))
    heading, first, second = with_ao.tables[0]
    assert [heading[4:6], first[4:6], second[4:6]] == [["AO", "mAO"], ["55.50", "44.40"], ["–", "–"]]


def test_public_script_columns_are_labelled_explained_and_never_bold():
    assert PUBLIC_SCRIPT not in page_of(make_report())
    script = {"success_auc": 99.9, "precision": 98.8, "norm_precision": 97.7}
    page = page_of(make_report(a=make_tracker(50.0, public_script=script), b=make_tracker(40.0)))
    reader = PageReader(page)
    heading, first, second = reader.tables[0]
    assert heading[4] == f"{PUBLIC_SCRIPT}: success AUC"
    assert first[4:7] == ["99.90", "98.80", "97.70"]
    assert second[4:7] == ["–", "–", "–"]
    assert PUBLIC_SCRIPT_NOTE in page
    assert "99.90" not in reader.bold


def test_a_sequence_that_a_tracker_lacks_or_could_not_score_shows_a_dash():
    report = make_report(
        a=make_tracker(50.0, sequences={"x": 10.0, "y": None}), b=make_tracker(40.0, sequences={"x": 20.0, "z": 30.0})
    )
    table = PageReader(page_of(report)).tables[1]
    assert table == [
        ["sequence", "frames", "a", "b"],
        ["x", "1,200", "10.00", "20.00"],
        ["y", "1,200", "–", "–"],
        ["z", "1,200", "–", "30.00"],
    ]


def test_a_page_holds_1400_sequences_of_six_trackers_below_two_megabytes():
    sequences = {f"sequence-number-{i}": float(i % 100) for i in range(1400)}
    page = page_of(make_report(**{f"tracker {i}": make_tracker(50.0 - i, sequences=sequences) for i in range(6)}))
    assert len(PageReader(page).tables[1]) == 1401
    assert len(page) < 2_000_000


def test_the_model_index_has_elysium_models_only_and_the_hub_library_reads_it(tmp_path):
    report = make_report(ours=make_tracker(63.444444, kind="elysium", ao=50.0), theirs=make_tracker(70.0))
    write_report(report, tmp_path)
    content = yaml.safe_load((tmp_path / "model_index.yaml").read_text("utf-8"))
    assert [entry["name"] for entry in content["model-index"]] == ["ours"]
    name, results = model_index_to_eval_results(content["model-index"])
    assert name == "ours"
    values = {result.metric_type: result.metric_value for result in results}
    assert values == {"success_auc": 63.4444, "precision": 50.0, "norm_precision": 60.0, "ao": 50.0}
    assert {(r.dataset_name, r.dataset_split, r.metric_config) for r in results} == {("LaSOT", "test", "one pass")}


def test_no_model_index_is_written_where_no_elysium_model_was_evaluated(tmp_path):
    assert "model_index.yaml" not in {path.name for path in write_report(make_report(a=make_tracker(1.0)), tmp_path)}


def test_a_report_of_answers_has_metrics_groups_and_a_histogram(tmp_path):
    names = {path.name for path in write_report(make_answers(), tmp_path)}
    plots = {"iou_histogram.png", "iou_histogram.svg"}
    assert names == plots | {"report.json", "report.html", "model_index.yaml"}
    small, large = PageReader((tmp_path / "report.html").read_text("utf-8")).tables
    assert small == [["samples of", "accuracy 50", "mean IoU"], ["all", "71.50", "0.62"]]
    assert large == [
        ["samples of", "accuracy 50", "unreadable"],
        ["all", "80.25", "3"],
        ["testA", "82.00", "–"],
        ["testB", "78.50", "–"],
    ]
    content = yaml.safe_load((tmp_path / "model_index.yaml").read_text("utf-8"))
    assert [entry["name"] for entry in content["model-index"]] == ["small", "large"]


def test_a_report_of_words_has_no_plot(tmp_path):
    names = {path.name for path in write_report(make_answers(histogram=False), tmp_path)}
    assert names == {"report.json", "report.html", "model_index.yaml"}
    assert "<img" not in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("value", [float("nan"), np.float32(1)])
def test_a_report_that_json_cannot_hold_leaves_no_file(tmp_path, value):
    with pytest.raises((TypeError, ValueError), match="JSON"):
        write_report(make_report(a=make_tracker(value)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 6, 12])
def test_a_plot_has_a_line_for_every_tracker_and_room_for_the_legend_below(tmp_path, count):
    figure = success_figure(**{f"tracker {i}": (60.0 - i, np.linspace(0.9, 0.1, 21)) for i in range(count)})
    (tmp_path / "plot.png").write_bytes(draw_figure(figure)[".png"])
    assert len(figure.axes[0].lines) == len(legend_texts(figure)) == count
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= 0
    assert legend.y1 <= figure.axes[0].xaxis.get_tightbbox().y0
    assert Image.open(tmp_path / "plot.png").width > 1000


def test_a_legend_is_sorted_by_the_score_of_its_own_plot_and_trackers_keep_their_line():
    trackers = {"a": (20.0, [0.1] * 21), "b": (90.0, [0.2] * 21)}
    figure = success_figure(**trackers)
    assert legend_texts(figure) == ["90.0  b", "20.0  a"]
    first, second = figure.axes[0].lines
    handles = figure.legends[0].legend_handles
    assert [handle.get_color() for handle in handles] == [second.get_color(), first.get_color()]
    assert first.get_ydata()[0] == pytest.approx(10.0)


def test_svg_is_the_same_bytes_each_time_whatever_was_drawn_before_and_has_no_date():
    first, second = (draw_figure(success_figure(a=(50.0, np.linspace(0.9, 0.1, 21)))) for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first[".svg"]


def test_settings_of_the_user_neither_change_a_plot_nor_are_changed():
    plain = draw_figure(success_figure(a=(50.0, np.linspace(0.9, 0.1, 21))))
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "axes.facecolor": "black", "svg.hashsalt": "me"}):
        assert draw_figure(success_figure(a=(50.0, np.linspace(0.9, 0.1, 21)))) == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_the_report_does_not_load_pyplot():
    code = "import sys, elysium.evaluation.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_neighbours_among_trackers_differ_in_colour_and_in_dashes():
    lines = success_figure(**{str(i): (50.0, [0.5] * 21) for i in range(20)}).axes[0].lines
    styles = [(line.get_color(), line.get_linestyle()) for line in lines]
    assert len(set(styles)) == 20
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in pairwise(styles))


def test_a_histogram_counts_every_iou_once_also_at_the_ends_and_shows_percent():
    histogram = iou_histogram([0.0, 0.0499, 0.05, 0.15, 0.999, 1.0])
    counts = dict(zip(histogram["edges"], histogram["counts"], strict=False))
    assert {edge: count for edge, count in counts.items() if count} == {0.0: 2, 0.05: 1, 0.15: 1, 0.95: 2}
    figure = iou_histogram_figure({"a": histogram, "b": iou_histogram([0.5])}, title="IoU")
    outlines = [patch.get_data().values for patch in figure.axes[0].patches]
    assert [outline.sum() for outline in outlines] == pytest.approx([100, 100])
    assert legend_texts(figure) == ["6  a", "1  b"]


def test_a_long_name_is_cut_in_the_legend():
    (text,) = legend_texts(success_figure(**{"x" * 60: (50.0, [0.5] * 21)}))
    assert text == f"50.0  {'x' * 43}…"
