//! Pictures, each as SVG and as PNG.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result};
use cpython_cds_tests::measure::median;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::Results;
use crate::results::contender::{ARCHIVE, STANDARD, STOCK};

const WIDTH: u32 = 900;
const FONT: &str = "sans-serif";
const ROW: u32 = 34;

const BLUE_LIKE: RGBColor = RGBColor(0, 114, 178);
const ORANGE_LIKE: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(70, 70, 70);

/// A picture: the name of its file without the suffix, and its title.
type Picture = (&'static str, &'static str);

const RATIOS: Picture = (
    "ratios",
    "How many times faster than stock a program starts and ends",
);
const MEMORY: Picture = (
    "memory",
    "Memory for code objects of processes that have imported pandas",
);
const LOAD_COST: Picture = ("load-cost", "The cost of an archive that is not used");

/// Draws with both backends.
macro_rules! picture {
    ($directory:expr, $picture:expr, $height:expr, $draw:ident, $results:expr) => {
        let size = (WIDTH, $height);
        let path = |suffix: &str| $directory.join(format!("{}.{suffix}", $picture.0));
        let what = |suffix: &str| format!("cannot draw {}", path(suffix).display());
        let (svg, png) = (path("svg"), path("png"));
        let area = SVGBackend::new(&svg, size).into_drawing_area();
        $draw(&area, $results).with_context(|| what("svg"))?;
        let area = BitMapBackend::new(&png, size).into_drawing_area();
        $draw(&area, $results).with_context(|| what("png"))?;
    };
}

/// The result of a drawing function.
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Draws pictures of all results into a directory. Returns files and titles.
pub fn draw(results: &Results, directory: &Path) -> Result<Vec<(&'static str, &'static str)>> {
    register_font();
    let mut drawn = Vec::new();
    let programs = results.programs.iter();
    let rows = programs
        .filter(|program| program.runs.contains_key(ARCHIVE))
        .count() as u32;
    if rows > 0 {
        let height = 144 + ROW * rows;
        picture!(directory, RATIOS, height, ratios, results);
        drawn.push(("ratios.svg", RATIOS.1));
    }
    if !results.memory.is_empty() {
        picture!(directory, MEMORY, 460, memory, results);
        drawn.push(("memory.svg", MEMORY.1));
    }
    if !results.load_cost.is_empty() {
        picture!(directory, LOAD_COST, 420, load_cost, results);
        drawn.push(("load-cost.svg", LOAD_COST.1));
    }
    Ok(drawn)
}

/// The font of bitmaps. Programs that show an SVG have fonts.
fn register_font() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // This cannot fail, because the bytes are a font.
        let _ = plotters::style::register_font(
            FONT,
            FontStyle::Normal,
            epaint_default_fonts::UBUNTU_LIGHT,
        );
    });
}

fn text(size: u32, colour: &RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(colour)
}

fn title<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    explained: &str,
) -> Drawn<B> {
    area.fill(&WHITE)?;
    area.draw(&Text::new(title.to_owned(), (24, 16), text(21, &BLACK)))?;
    area.draw(&Text::new(explained.to_owned(), (24, 44), text(15, &GREY)))
}

/// A row for each program: dots at the medians, bars over the intervals, from 1 on.
fn ratios<B: DrawingBackend>(area: &DrawingArea<B, Shift>, results: &Results) -> Drawn<B> {
    title(
        area,
        RATIOS.1,
        "Medians with 95 % intervals. Stock, with .pyc files, is 1.",
    )?;
    let programs: Vec<_> = results
        .programs
        .iter()
        .filter(|program| program.runs.contains_key(ARCHIVE))
        .collect();
    let shown = [
        (ARCHIVE, BLUE_LIKE, "with an archive of the program"),
        (STANDARD, ORANGE_LIKE, "with the standard archive only"),
    ];
    let highest = programs
        .iter()
        .filter_map(|program| program.ratio(STOCK, ARCHIVE))
        .fold(1.5, |highest: f64, ratio| highest.max(ratio.high));
    let (left, top, width) = (130, 118, WIDTH as i32 - 130 - 60);
    let scale = f64::from(width) / (highest - 1.0 + 0.15);
    let x = |ratio: f64| left + ((ratio - 0.95) * scale) as i32;
    let bottom = top + (programs.len() as u32 * ROW) as i32;
    let centred = Pos::new(HPos::Center, VPos::Bottom);
    let mut tick = 1.0;
    while tick <= highest + 0.05 {
        let colour = if tick == 1.0 {
            GREY
        } else {
            RGBColor(225, 225, 225)
        };
        area.draw(&PathElement::new(
            vec![(x(tick), top - 6), (x(tick), bottom)],
            colour,
        ))?;
        let label = format!("{tick:.2}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned();
        area.draw(&Text::new(
            label + "x",
            (x(tick), top - 8),
            text(14, &GREY).pos(centred),
        ))?;
        tick += 0.25;
    }
    for (row, program) in programs.iter().enumerate() {
        let middle = top + (row as u32 * ROW + ROW / 2) as i32;
        let right = Pos::new(HPos::Right, VPos::Center);
        area.draw(&Text::new(
            program.name.clone(),
            (left - 14, middle),
            text(16, &BLACK).pos(right),
        ))?;
        for (index, (contender, colour, _)) in shown.iter().enumerate() {
            let Some(ratio) = program.ratio(STOCK, contender) else {
                continue;
            };
            let y = middle + if index == 0 { -6 } else { 7 };
            let ends = [x(ratio.low), x(ratio.high)];
            area.draw(&PathElement::new(
                vec![(ends[0], y), (ends[1], y)],
                colour.stroke_width(3),
            ))?;
            for end in ends {
                area.draw(&PathElement::new(
                    vec![(end, y - 4), (end, y + 4)],
                    colour.stroke_width(2),
                ))?;
            }
            area.draw(&Circle::new((x(ratio.median), y), 5, colour.filled()))?;
            if index == 0 {
                let label = format!("{:.2}x", ratio.median);
                let position = (ends[1] + 10, y);
                let style = text(14, &BLACK).pos(Pos::new(HPos::Left, VPos::Center));
                area.draw(&Text::new(label, position, style))?;
            }
        }
    }
    let mut at = left;
    for (contender, colour, label) in shown {
        if programs
            .iter()
            .any(|program| program.runs.contains_key(contender))
        {
            area.draw(&Circle::new((at, 78), 5, colour.filled()))?;
            let style = text(15, &BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(label.to_owned(), (at + 12, 78), style))?;
            at += 270;
        }
    }
    Ok(())
}

/// Two lines over the number of processes.
fn memory<B: DrawingBackend>(area: &DrawingArea<B, Shift>, results: &Results) -> Drawn<B> {
    title(
        area,
        MEMORY.1,
        "Megabytes of all processes together: archives by proportional set size, others by sys.getsizeof().",
    )?;
    let megabytes = |kilobytes: u64| kilobytes as f64 / 1024.0;
    let (mut most, mut processes) = (1.0f64, 1);
    for memory in &results.memory {
        most = most.max(megabytes(memory.code_kb));
        processes = processes.max(memory.processes);
    }
    let (_, rest) = area.split_vertically(70);
    let mut chart = ChartBuilder::on(&rest)
        .margin(16)
        .margin_right(160)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..processes as f64, 0.0..most * 1.05)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(GREY)
        .label_style(text(14, &GREY))
        .axis_desc_style(text(15, &BLACK))
        .x_desc("processes")
        .y_desc("MB")
        .x_labels(9)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (contender, colour, label) in [
        (STOCK, ORANGE_LIKE, "stock"),
        (ARCHIVE, BLUE_LIKE, "with archives"),
    ] {
        let points: Vec<(f64, f64)> = results
            .memory
            .iter()
            .filter(|memory| memory.contender == contender)
            .map(|memory| (memory.processes as f64, megabytes(memory.code_kb)))
            .collect();
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(3)))?;
        chart.draw_series(
            points
                .iter()
                .map(|&point| Circle::new(point, 4, colour.filled())),
        )?;
        if let Some(&last) = points.last() {
            let (x, y) = chart.backend_coord(&last);
            let label = format!("{label}: {:.0} MB", last.1);
            let style = text(15, &colour).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(label, (x + 12, y), style))?;
        }
    }
    Ok(())
}

/// The time of `-c pass` over the number of modules, with its quartiles.
fn load_cost<B: DrawingBackend>(area: &DrawingArea<B, Shift>, results: &Results) -> Drawn<B> {
    title(
        area,
        LOAD_COST.1,
        "Milliseconds of `python -X cds=… -c pass` by modules in the archive: medians and quartiles.",
    )?;
    let quartiles = |index: usize| {
        let mut times: Vec<f64> = results.load_cost[index]
            .runs
            .iter()
            .map(|run| run.wall_ms)
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
        (at(0.25), median(&times), at(0.75))
    };
    let costs: Vec<_> = (0..results.load_cost.len())
        .filter(|&index| !results.load_cost[index].runs.is_empty())
        .map(|index| (results.load_cost[index].modules as f64, quartiles(index)))
        .collect();
    let most = costs
        .iter()
        .fold(1.0, |most: f64, (_, times)| most.max(times.2));
    let largest = costs
        .iter()
        .fold(10.0, |most: f64, (modules, _)| most.max(*modules));
    let (_, rest) = area.split_vertically(70);
    let mut chart = ChartBuilder::on(&rest)
        .margin(16)
        .margin_right(60)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((7.0..largest * 1.4).log_scale(), 0.0..most * 1.25)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(GREY)
        .label_style(text(14, &GREY))
        .axis_desc_style(text(15, &BLACK))
        .x_desc("modules in the archive")
        .y_desc("ms")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    chart.draw_series(LineSeries::new(
        costs.iter().map(|(modules, times)| (*modules, times.1)),
        BLUE_LIKE.stroke_width(3),
    ))?;
    chart.draw_series(costs.iter().map(|(modules, times)| {
        ErrorBar::new_vertical(*modules, times.0, times.1, times.2, BLUE_LIKE.filled(), 10)
    }))?;
    for (modules, times) in &costs {
        let (x, y) = chart.backend_coord(&(*modules, times.2));
        let style = text(15, &BLACK).pos(Pos::new(HPos::Center, VPos::Bottom));
        area.draw(&Text::new(format!("{:.2}", times.1), (x, y - 8), style))?;
    }
    Ok(())
}
