import pytest

pytest.importorskip("openpyxl")

from agentrm.environments.tools.sheet import Sheet
from agentrm.environments.tools.toolkit import ToolError

TABLE = [["Item", "Price"], ["Rope", 9], ["Mug", 4], ["Vase", 12]]


def state(rows):
    cells = tuple((f"{'ABCD'[x]}{y}", value, "") for y, row in enumerate(rows, 1) for x, value in enumerate(row))
    return "Shop", (("Shop", (0, 0), cells, ()), ("Spare", (0, 0), (("A1", "x", ""),), ()))


@pytest.fixture
def sheet():
    found = Sheet.of(state(TABLE))
    yield found
    found.close()


def test_sheets_are_opened_and_deleted(sheet) -> None:
    assert sheet.open_sheet("Spare") == "You are now in Spare."
    assert sheet.get_all_values() == [["x"]]
    with pytest.raises(ToolError, match="there is no sheet Lost: choose one of Shop, Spare"):
        sheet.open_sheet("Lost")
    assert sheet.del_sheet("Spare") == "Spare is deleted."
    assert ("Spare",) not in sheet.facts()
    with pytest.raises(ToolError, match="no sheet is open: call open_sheet first"):
        sheet.get_all_values()
    with pytest.raises(ToolError, match="the only sheet cannot be deleted"):
        sheet.del_sheet("Shop")


def test_values_are_read(sheet) -> None:
    assert sheet.get_all_values() == TABLE
    assert sheet.get_range_values("A2", "B3") == [["Rope", 9], ["Mug", 4]]
    assert sheet.get_cell_value("C7") == ""
    assert sheet.get_A1_annotation(3, 2) == "B3"
    assert sheet.filter_cells("Mug") == ["A3"]
    assert sheet.filter_cells("4", in_column=2) == ["B3"]
    assert sheet.filter_cells("4", in_row=2) == []
    with pytest.raises(ToolError, match="B2:A3 ends before it starts"):
        sheet.get_range_values("B2", "A3")


def test_cells_are_written(sheet) -> None:
    assert sheet.update_cell("B2", "9.5")[1] == ["Rope", 9.5]
    assert sheet.update_range("A5", "B5", [["Bell", 1]])[4] == ["Bell", 1]
    with pytest.raises(ToolError, match="A5:B5 wants 1 rows of 2 values"):
        sheet.update_range("A5", "B5", [["Bell"]])


def test_a_refused_range_changes_nothing(sheet) -> None:
    with pytest.raises(ToolError, match="control characters"):
        sheet.update_range("A2", "B2", [["Bell", "\x01"]])
    with pytest.raises(ToolError, match="control characters"):
        sheet.insert_rows([["Bell"], ["\x01"]], 2)
    assert sheet.get_all_values() == TABLE


def test_rows_and_columns_are_inserted(sheet) -> None:
    assert sheet.insert_rows([["Bell", 1]], 2) == [TABLE[0], ["Bell", 1], *TABLE[1:]]
    assert sheet.insert_cols([["Id", 1]], 1)[:2] == [["Id", "Item", "Price"], [1, "Bell", 1]]
    with pytest.raises(ToolError, match="a sheet has at most 100 rows and 26 columns"):
        sheet.insert_rows([["x"]] * 96, 6)
    with pytest.raises(ToolError, match="a sheet has at most"):
        sheet.insert_rows([["x"] * 27], 6)


def test_rows_and_columns_are_deleted_at_once(sheet) -> None:
    assert sheet.delete_batch_data("row", [2, 4]) == [TABLE[0], ["Mug", 4]]
    assert sheet.delete_batch_data("col", [1]) == [["Price"], [4]]
    with pytest.raises(ToolError, match="there is no col 2: the last one is 1"):
        sheet.delete_batch_data("col", [2])
    with pytest.raises(ToolError, match="the whole sheet cannot be deleted at once"):
        sheet.delete_batch_data("row", [1, 2])


def test_a_formula_is_computed_and_stored(sheet) -> None:
    assert sheet.get_value_by_formula("SUM", "B1", "B4") == 25
    assert sheet.get_value_by_formula("MINUS", position_list=["B4", "B2"]) == 3
    assert sheet.update_cell_by_formula("MAX", "C1", "B2", "B4")[0] == ["Item", "Price", 12]
    sheet.update_cell("B4", 0)
    assert sheet.get_cell_value("C1") == 12
    with pytest.raises(ToolError, match="give start_position and end_position, or position_list"):
        sheet.get_value_by_formula("SUM", "B1")


def test_sorting_leaves_the_frozen_header(sheet) -> None:
    assert sheet.sort_sheet_by_col(2, "asc")[0] == ["Mug", 4]  # the header's text comes after the numbers
    sheet = Sheet.of(state(TABLE))
    assert sheet.freeze_data("rows", 1) == "Frozen rows: 1."
    sheet.update_note("A3", "chipped")
    assert sheet.sort_sheet_by_col(2, "asc") == [TABLE[0], TABLE[2], TABLE[1], TABLE[3]]
    assert sheet.get_note("A2") == "chipped"
    assert sheet.get_note("A3") == ""
    assert sheet.sort_sheet_by_col(2, "des") == [TABLE[0], TABLE[3], TABLE[1], TABLE[2]]
    sheet.close()


def test_empty_cells_are_sorted_last() -> None:
    sheet = Sheet.of(state([["b", 2], ["a"], ["c", 1]]))
    assert sheet.sort_sheet_by_col(2, "des") == [["b", 2], ["c", 1], ["a", ""]]
    assert sheet.sort_sheet_by_col(2, "asc") == [["c", 1], ["b", 2], ["a", ""]]
    sheet.close()


def test_merged_cells_keep_the_first_value_and_their_place(sheet) -> None:
    assert sheet.merge_cells("A1", "B1")[0] == ["Item", ""]
    assert sheet.facts()[("Shop", "A1:B1", "merged")]
    for refused in (lambda: sheet.update_cell("B1", 1), lambda: sheet.update_note("B1", "x")):
        with pytest.raises(ToolError, match="B1 is inside a merged range"):
            refused()
    with pytest.raises(ToolError, match="A1:A2 overlaps the merged range A1:B1"):
        sheet.merge_cells("A1", "A2")
    with pytest.raises(ToolError, match="Shop has merged cells"):
        sheet.sort_sheet_by_col(1, "asc")
    with pytest.raises(ToolError, match="one cell alone"):
        sheet.merge_cells("C1", "C1")


def test_a_saved_workbook_can_be_had_again(sheet) -> None:
    sheet.freeze_data("columns", 2)
    sheet.update_note("C9", "later")
    sheet.merge_cells("A4", "B4")
    other = Sheet.of(sheet.save())
    assert other.save() == sheet.save()
    assert other.get_all_values() == sheet.get_all_values()
    other.close()
