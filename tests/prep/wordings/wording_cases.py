r"""Hand-made cases: a problem, another wording of it, the answer, and what is wrong with the wording, if anything."""

from typing import NamedTuple

from r1_sharevl.prep.wordings import checks


class Case(NamedTuple):
    problem: str
    wording: str
    answer: str
    fault: str | None
    why: str


MIDPOINT = "<image>\nIn triangle ABC, D is the midpoint of BC. If AB = 5 cm and AC = 7 cm, find the length of AD."
ANGLE = r"As shown in the figure, in $\triangle ABC$, $\angle A = 40^\circ$ and $\angle B = 60^\circ$. Find $\angle C$."
CHORD = (
    r"<image>In circle O, chord AB has length 8 and the distance from O to AB is 3. What is the radius of the circle?"
)
AREA = "What is the area of the shaded region if the radius of the circle is 4 cm?"
LINE = "The line $y = 2x + 3$ meets the x-axis at point P. Find the coordinates of P."
QUADRATIC = r"Solve $x^2 - 5x + 6 = 0$ for the larger root."
BARS = "<image>\nHow many bars in the chart are taller than 20?"
COLOUR = "<image>\nWhat colour is the ball?\nA. red\nB. green\nC. blue\nD. light blue"
LENGTHS = "How long is AB?\nChoices:\n(A) 5 cm\n(B) 5 m\n(C) $\\frac{1}{2}$ cm\n(D) 12 cm"
FOOD = "<image> Which of these organisms is a producer in the food web shown?\nA. fox\nB. grass\nC. rabbit\nD. hawk"
CUBES = "Subtract all tiny balls. Subtract all green metallic things. How many objects are left?"
TWO_IMAGES = "<image><image> Which of the two pictures shows more apples?"
MIDDLE = "Look at <image> and say how many apples lie on the table."
TRAPEZOID = "如图，在梯形ABCD中，AD∥BC，∠B=30°，∠C=60°，AD=4，AB=6，求BC的长。"
CIRCLE_ZH = "如图，AB是⊙O的直径，点C在⊙O上，∠ABC=30°，则∠BAC的度数是（　　）"
CHOICE_ZH = "如图，AB∥CD，∠1=50°，则∠2等于（ ）\nA．40°\nB．50°\nC．130°\nD．60°"
SPEED = "A car travels 120 km in 2 hours. What is its average speed in km/h?"
RATIO = "The ratio of boys to girls in a class is 3:4. If there are 28 students, how many are girls?"
POINTS = "Points A(1, 2) and B(4, 6) are given. Compute the distance between A and B."

GEOMETRY = [
    (
        "The distance from O to AB is 3, and 8 is the length of chord AB. Find OA.",
        "Chord AB = 8, and O lies at a distance of 3 from AB. What is OA?",
        "whose value a number is",
    ),
    (r"Where does $y=\frac{1}{2}x+3$ cut the axis?", "At which point does y = 1/2 x + 3 cut the axis?", "a space"),
    (
        MIDPOINT,
        "<image>\nTriangle ABC has AB = 5 cm and AC = 7 cm. If D is the midpoint of BC, what is the length of AD?",
        "turned around",
    ),
    (
        MIDPOINT,
        "In triangle ABC, point D bisects side BC. Given that AB = 5 cm and AC = 7 cm, determine how long AD is.",
        "no mark",
    ),
    (
        MIDPOINT,
        "<image> Let D be the midpoint of side BC of △ABC. With AB = 5 centimetres and AC = 7 centimetres, find AD.",
        "units in words",
    ),
    (
        MIDPOINT,
        r"<image> $D$ is the midpoint of $BC$ in $\triangle ABC$. If $AB=5\text{ cm}$, $AC=7\,\mathrm{cm}$, find $AD$.",
        "LaTeX",
    ),
    (
        ANGLE,
        r"In triangle ABC, angle A measures 40 degrees and angle B measures 60 degrees. What is angle C?",
        "words",
    ),
    (ANGLE, "The figure shows △ABC with ∠A = 40° and ∠B = 60°. Calculate the size of ∠C.", "Unicode"),
    (
        ANGLE,
        r"Given $\triangle ABC$ with $\angle A=40^{\circ}$, $\angle B=60^{\circ}$, determine $\angle C$.",
        "braces",
    ),
    (
        ANGLE,
        "Two angles of triangle ABC are given: ∠A = 40° and ∠B = 60°. What is the third angle, ∠C?",
        "a small word number is added",
    ),
    (
        CHORD,
        "<image>Chord AB of circle O is 8 units long and at a distance of 3 from the center O. Find its radius.",
        "units",
    ),
    (
        CHORD,
        "<image>A circle with center O has a chord AB of length 8. The distance from O to AB is 3. Find the radius.",
        "longer",
    ),
    (AREA, "Find the area of the shaded part, given that the circle's radius is 4 cm.", "possessive"),
    (
        AREA,
        "If the circle has a radius of 4 centimeters, how large is the area of the shaded region?",
        "American units",
    ),
    (AREA, "The circle has a radius of four cm. What area does the shaded region have?", "a number in words"),
    (
        LINE,
        "Point P is where the line y = 2x + 3 crosses the x-axis. What are the coordinates of P?",
        "no dollar signs",
    ),
    (
        LINE,
        r"Determine the coordinates of the point P at which the line \(y=2x+3\) intersects the x-axis.",
        "other delimiters",
    ),
    (
        LINE,
        r"Find where the line given by $y = 2 \cdot x + 3$ cuts the x-axis; call it P and give its coordinates.",
        "a dot",
    ),
    (QUADRATIC, "Find the larger root of the equation x² − 5x + 6 = 0.", "Unicode"),
    (QUADRATIC, r"What is the larger solution of $x^{2}-5x+6=0$?", "braces"),
    (QUADRATIC, "Which is the larger root of x squared - 5x + 6 = 0?", "squared in words"),
    (POINTS, "Find the distance between the points A (1,2) and B (4,6).", "spaces in the coordinates"),
    (POINTS, "What is the length of the segment joining A(1, 2) and B(4, 6)?", "another noun"),
    ("Find x.", "What is the value of x?", "very short"),
    ("Find x.", "Determine x from the figure.", "very short"),
    ("Find $m \\angle 1$.", "What is the value of $m\\angle{1}$?", "a numbered angle"),
    (r"Find $\sin A$ in right triangle ABC.", "In the right triangle ABC, what is sin A?", "a function"),
    (r"Find $\sin A$ in right triangle ABC.", "What is the sine of A in right triangle ABC?", "a function in words"),
    (
        r"Express the area in terms of $\pi$. The radius is $\sqrt{3}$.",
        "The radius is √3. Give the area in terms of π.",
        "root and pi",
    ),
    (r"If $\frac{AB}{BC}=\frac12$ and BC = 10, find AB.", "Given AB/BC = 1/2 and BC = 10, what is AB?", "fractions"),
    (
        r"If $\dfrac{AB}{BC} = \dfrac{1}{2}$ and BC = 10, find AB.",
        r"Given $\frac{AB}{BC}=½$ with BC = 10, compute AB.",
        "a Unicode fraction",
    ),
    ("AD is half of BC. BC = 12. Find AD.", "If BC = 12 and AD is 1/2 of BC, what is AD?", "half in digits"),
    (
        "The larger circle's radius is twice that of the smaller one, r. Find their areas' ratio.",
        "A circle has 2 times the radius r of the smaller one. What is the ratio of their areas?",
        "twice in digits",
    ),
    (
        "Find the value of x if 3 > x and x is an integer greater than 1.",
        "If x is an integer with x < 3 and x > 1, what is x?",
        "flipped",
    ),
    (
        "Two sides of a triangle are 3 and 4. Find the third.",
        "A triangle has sides of length 3 and 4. What is the length of the remaining side?",
        "words go",
    ),
    (
        "Quadrilateral ABCD is inscribed in a circle. If ∠A = 70°, find ∠C.",
        "ABCD is a cyclic quadrilateral with ∠A = 70°. What is ∠C?",
        "a term",
    ),
    (
        "AB is parallel to CD, and EF cuts both. If angle AEF is 65 degrees, what is angle EFD?",
        r"Given $AB \parallel CD$ and a transversal $EF$ with $\angle AEF = 65^\circ$, find $\angle EFD$.",
        "parallel as a sign",
    ),
    (
        "In rectangle ABCD, AB = 3 and BC = 4. Find AC.",
        "Rectangle ABCD has side lengths AB = 3 and BC = 4. Compute the diagonal AC.",
        "a noun",
    ),
    (
        "A cone has a base radius of 3 cm and a height of 4 cm. Find its volume.",
        "Find the volume of a cone whose height is 4 cm and whose base radius is 3 cm.",
        "order",
    ),
    (
        "A cylinder has a volume of 100 cm³. Its height is 4 cm. Find the base area in cm².",
        "What is the base area, in square centimeters, of a cylinder 4 cm high with a volume of 100 cubic centimetres?",
        "powers of units",
    ),
    (
        "Find the sum of AB and BC, if AB = 2 and BC = 9.",
        "If AB = 2 and BC = 9, what do you get when AB and BC are added?",
        "a sum in words",
    ),
    (
        "The perimeter of square ABCD is 20. What is the length of AB?",
        "Square ABCD has a perimeter of 20. How long is AB?",
        "length and long",
    ),
    (
        "A is the center of the circle and B lies on it. AB = 5. Find the diameter.",
        "A circle has center A; point B lies on the circle with AB = 5. What is the diameter?",
        "A is name and article",
    ),
    (
        "Sides a, b and c of the triangle satisfy a = 3, b = 4. Find c.",
        "A triangle has sides $a$, $b$ and $c$. If $a=3$ and $b=4$, what is $c$?",
        "a is a variable",
    ),
    (
        r"Given $A'B' = 3$ and $AB = 6$, find the scale factor from ABC to A'B'C'.",
        "If A'B' = 3 and AB = 6, by what factor is ABC scaled to A′B′C′?",
        "primes",
    ),
    (
        r"$x_1$ and $x_2$ are the roots of $x^2-3x+1=0$. Find $x_1+x_2$.",
        "Let x₁ and x₂ be the roots of x² - 3x + 1 = 0. What is x₁ + x₂?",
        "subscripts",
    ),
    (
        r"Find $\angle \alpha$ if $\alpha + \beta = 90^{\circ}$ and $\beta = 25^{\circ}$.",
        "If α + β = 90° and β = 25°, what is the angle α?",
        "Greek letters",
    ),
    (
        "A regular hexagon has side length 2. Find its area.",
        "What is the area of a regular hexagon with sides of length 2?",
        "plural",
    ),
    (
        "How many square units is the area of the L-shaped region on the 5 by 5 grid?",
        "On the 5 × 5 grid, what is the area of the L-shaped region in square units?",
        "by",
    ),
    (
        "If 1,000 squares are shaded, how many remain?",
        "How many squares remain if 1000 of them are shaded?",
        "thousands separator",
    ),
    (
        "The temperature drops from 3.0 °C to −5 °C. By how many degrees does it drop?",
        "By how many degrees does the temperature fall, when it goes from 3 °C to -5 °C?",
        "signs",
    ),
    (
        "30% of the circle is shaded. What is the central angle of the shaded part?",
        "What central angle does the shaded sector have if 30 percent of the circle is shaded?",
        "percent",
    ),
]

CHARTS_AND_SCIENCE = [
    ("I have 3 apples. How many are left if I eat one?", "If one of 3 apples is eaten, how many are left?", "I"),
    (
        "Question: What is the bar's value?",
        "Question: How large is the value of the bar?",
        "the problem has a label, too",
    ),
    (
        "The chart shows, in $ thousands, the sales of A and B (not in $ millions). Which is larger?",
        "Which of the sales of A and B, given in thousands and not millions of dollars, is larger?",
        "two dollar signs are no formula",
    ),
    (
        r"Add $3\frac{1}{2}$ cups. How many for 2 cakes?",
        "How many cups for 2 cakes, if 3½ are added?",
        "a mixed number",
    ),
    ("How many dots has Figure3?", "What is the number of dots in Figure 3?", "a missing space"),
    (
        r"Of $1\,000$ and $2{,}000$ bricks, how many are red?",
        "How many of 1000 and 2,000 bricks are red?",
        "thin spaces",
    ),
    (
        "One day Tom saw 5 birds and 3 cats. How many animals?",
        "Tom saw 5 birds and 3 cats. How many animals?",
        "one day",
    ),
    (
        "Which compound forms when Na reacts with Cl2?",
        "Name the compound that forms in the reaction of Na with Cl2.",
        "a digit at the end",
    ),
    (
        "If the income is $2,400, how much goes to rent?",
        "How much goes to rent from an income of $2400?",
        "a comma behind a separator",
    ),
    (
        "P(2, -3) is reflected over the x-axis. Where is P'?",
        "Where is P', the image of P(2, −3) under reflection in the x-axis?",
        "over and under",
    ),
    (BARS, "<image>\nCount the bars in the chart whose height exceeds 20.", "a verb"),
    (BARS, "<image>\nIn the chart, what is the number of bars that are taller than 20?", "order"),
    (BARS, "How many of the chart's bars go above 20?", "no mark"),
    (
        SPEED,
        "What average speed, in kilometers per hour, does a car have that covers 120 km in 2 hours?",
        "unit in words",
    ),
    (
        SPEED,
        "A car covers a distance of 120 kilometres in two hours. Find its average speed in km/h.",
        "number in words",
    ),
    (RATIO, "A class has 28 students, with boys and girls in the ratio 3:4. How many girls are there?", "ratio"),
    (
        RATIO,
        "In a class of 28 students, the ratio of boys to girls is 3 to 4. What is the number of girls?",
        "ratio in words",
    ),
    (CUBES, "Remove every tiny ball and every green metallic thing. What number of objects remains?", "synonyms"),
    (CUBES, "If all tiny balls and all green metallic things are taken away, how many objects remain?", "one sentence"),
    (
        "In which year did sales first exceed 300 units?",
        "What was the first year with sales of more than 300 units?",
        "more",
    ),
    (
        "What is the difference between the highest and the lowest value from 2010 to 2015?",
        "By how much do the largest and smallest values in the period 2010-2015 differ?",
        "range",
    ),
    ("Which country has the highest GDP in 2020?", "Name the country whose GDP was the largest in 2020.", "synonym"),
    (
        "What percentage of people chose Tennis as their favourite sport?",
        "How many percent of the people named tennis as the sport they like most?",
        "case",
    ),
    (
        "Is the sum of smallest two bar is greater then the largest bar?",
        "Do the two smallest bars together add up to more than the largest bar?",
        "bad English",
    ),
    ("What is the median of the data shown?", "Determine the median of the displayed data.", "short"),
    (
        "A block of mass 2 kg is pulled by a force of 10 N. What is its acceleration?",
        "A force of 10 newtons pulls a block with a mass of 2 kilograms. Find the acceleration.",
        "units",
    ),
    (
        "What is the current through R1 if the battery supplies 12 V and R1 = 4 Ω?",
        "If the battery provides 12 volts and R1 = 4 ohms, how large is the current through R1?",
        "volts and ohms",
    ),
    (
        "How many moles of CO2 form from 2 moles of C3H8?",
        "From 2 moles of C3H8, how many moles of CO₂ are produced?",
        "chemical formulas",
    ),
    (
        "An object accelerates at 9.8 m/s². What is its speed after 3 s?",
        "What speed does an object reach after 3 seconds if its acceleration is 9.8 m/s^2?",
        "seconds",
    ),
    ("Which label points to the nucleus?", "Which of the labels marks the nucleus?", "a diagram"),
    ("What time does the clock show?", "Read the time off the clock.", "a clock"),
    (
        "Move two matches to make the equation true. Which number results?",
        "Which number do you get, when you make the equation true by moving 2 matches?",
        "word to digit",
    ),
    ("How many triangles are there in the picture?", "Count all the triangles in the picture.", "count"),
    (
        "A dozen eggs cost 36 cents. How much is one egg?",
        "What is the price of a single egg if 12 eggs cost 36 cents?",
        "dozen",
    ),
    (
        "The 3rd figure has 7 dots. How many dots has the 10th figure?",
        "If the third figure has 7 dots, how many are in the tenth?",
        "ordinals",
    ),
    (
        "Jane bought 3 pens at $2 each. How much did she pay?",
        "How much did Jane pay for 3 pens that cost $2 each?",
        "a price",
    ),
    (
        "Jane paid $5 and Tom paid $7. How much is that together?",
        "What is the total if Jane pays $5 and Tom pays $7?",
        "two prices are no formula",
    ),
    (
        "What is the value of the smallest bar? Answer with a number.",
        "Give the value of the smallest bar as a number.",
        "instruction",
    ),
    (
        "Where do the curves y=x and y = x^2 intersect for x > 0?",
        "For x > 0, at which point do y = x² and y = x meet?",
        "order of equations",
    ),
]

CHOICES = [
    (COLOUR, "<image>\nThe ball has which colour?\nA. red\nB. green\nC. blue\nD. light blue", "the stem only"),
    (
        COLOUR,
        "<image>\nName the colour of the ball.\n(A) red\n(B) green\n(C) blue\n(D) light blue",
        "labels in parentheses",
    ),
    (COLOUR, "<image>\nName the colour of the ball. A. Red B. Green C. Blue D. Light blue", "in one line, capitals"),
    (COLOUR, "Which colour does the ball have?\nA: red\nB: green\nC: blue\nD:  light  blue", "colons, spaces"),
    (
        LENGTHS,
        "What is the length of AB?\nChoices:\n(A) 5 cm\n(B) 5 m\n(C) $\\dfrac{1}{2}$ cm\n(D) 12 cm",
        "equal markup in an option",
    ),
    (LENGTHS, "Determine AB.\nA. $5$ cm\nB. $5$ m\nC. 1/2 cm\nD. 12 cm", "plain options"),
    (
        FOOD,
        "<image> In the food web shown, which organism is a producer?\nA. fox\nB. grass\nC. rabbit\nD. hawk",
        "science",
    ),
    (
        FOOD,
        "<image> Which organism acts as a producer in this food web?\nA) fox\nB) grass\nC) rabbit\nD) hawk",
        "half parentheses",
    ),
    (
        "Which of the following is NOT a mammal?\nA. whale\nB. shark\nC. bat",
        "Which of these isn't a mammal?\nA. whale\nB. shark\nC. bat",
        "not",
    ),
    (
        "Which statement is not true?\nA. a < b\nB. a > b",
        "Which statement is false?\nA. a < b\nB. a > b",
        "not true is false",
    ),
    ("Is AB = CD? Answer yes or no.", "Do AB and CD have equal length? Reply with yes or no.", "yes or no"),
]

CHINESE = [
    (
        "如图，直线a∥b，∠1=70°，∠2=40°，则∠3的度数是多少？",
        "已知直线a与直线b平行，∠1=70°，∠2=40°，求∠3等于多少度？",
        "小写字母",
    ),
    (TRAPEZOID, "如图所示，梯形ABCD中AD∥BC，已知∠B=30°，∠C=60°，AD=4，AB=6，那么BC的长是多少？", "顺序"),
    (
        TRAPEZOID,
        "在梯形ABCD中，$AD \\parallel BC$，$\\angle B=30^\\circ$，$\\angle C=60^\\circ$，AD=4，AB=6。求BC的长度。",
        "LaTeX",
    ),
    (TRAPEZOID, "已知四边形ABCD是梯形，AD平行于BC，角B为30度，角C为60度，AD的长为4，AB的长为6，试求BC的长。", "文字"),
    (CIRCLE_ZH, "如图，点C在⊙O上，AB为⊙O的直径，若∠ABC=30°，求∠BAC的度数。", "换序"),
    (CIRCLE_ZH, "已知AB为圆O的直径，C为圆O上一点，∠ABC等于30度，那么∠BAC是多少度？", "圆"),
    (CHOICE_ZH, "如图所示，直线AB与CD平行，若∠1=50°，那么∠2的度数为（ ）\nA．40°\nB．50°\nC．130°\nD．60°", "选择题"),
    (CHOICE_ZH, "如图，已知AB∥CD，且∠1=50°，求∠2的大小。\nA. 40°\nB. 50°\nC. 130°\nD. 60°", "半角标点"),
    ("小明有三个苹果，小红有5个苹果，一共有多少个？", "小红有5个苹果，小明有3个苹果，他们总共有几个苹果？", "三与3"),
    ("一个圆的半径是5厘米，求它的面积。", "已知圆的半径为5cm，圆的面积是多少？", "单位"),
    ("图中有几个三角形？", "请数一数图中三角形的个数。", "短"),
    ("这个柱状图中哪一年的销量最高？", "从柱状图看，销量最大的是哪一年？", "同义"),
    ("下列图形中不是轴对称图形的是（ ）", "以下哪个图形不属于轴对称图形？", "否定"),
    ("一辆汽车以60千米/时的速度行驶2小时，行驶了多少千米？", "汽车的速度为60km/h，行驶2小时的路程是多少千米？", "速度"),
    ("长方形的长是8米，宽是长的二分之一，求面积。", "一个长方形长8米，宽为长的1/2，它的面积是多少？", "分数"),
]

OTHER_LANGUAGES = [
    ("Wie groß ist der Winkel α im Dreieck ABC?", "Bestimme die Größe des Winkels α im Dreieck ABC.", "German"),
    ("Quelle est la valeur de x dans le triangle ABC ?", "Trouvez la valeur de x dans ce triangle ABC.", "French"),
    (
        "¿Cuál es el área del triángulo ABC si AB = 3 y BC = 4?",
        "Si AB = 3 y BC = 4, calcula el área del triángulo ABC.",
        "Spanish",
    ),
    (
        "¿Cuántos lados y vértices tiene la figura?",
        "¿Qué número de lados y de vértices hay en la figura?",
        "a Spanish word of one letter",
    ),
    (
        "¿Cuántos lados y vértices tiene la figura?",
        "Cuente los lados de la figura, así como los vértices que tiene.",
        "it may go",
    ),
    ("x'in değeri kaçtır?", "Şekilde x değeri nedir?", "Turkish"),
    ("Giá trị của x là bao nhiêu?", "Hãy tìm giá trị của x trong hình.", "Vietnamese"),
    ("Найдите площадь треугольника ABC, если AB = 3.", "Чему равна площадь треугольника ABC при AB = 3?", "Russian"),
    ("図の三角形ABCの面積を求めなさい。", "図において三角形ABCの面積はいくらですか。", "Japanese"),
    ("삼각형 ABC의 넓이를 구하시오.", "삼각형 ABC의 넓이는 얼마입니까?", "Korean"),
]

GOOD = [
    Case(problem, wording, "17", None, why)
    for group in (GEOMETRY, CHARTS_AND_SCIENCE, CHINESE, OTHER_LANGUAGES)
    for problem, wording, why in group
] + [Case(problem, wording, "B", None, why) for problem, wording, why in CHOICES]


NUMBERS = [
    ("Find 1.5 times the area.", "What is 15 times the area?", "the point"),
    ("Find 1.5 times the area.", "Find 15 times the area.", "only the point"),
    (
        "How many of the three balls, one of them red, are in 5 boxes?",
        "How many of 1 ball are in 5 boxes, one red?",
        "a 1 for a three",
    ),
    (MIDPOINT, "<image>\nIn triangle ABC, D is the midpoint of BC. Given AB = 6 cm and AC = 7 cm, find AD.", "changed"),
    (
        MIDPOINT,
        "<image>\nIn triangle ABC, D is the midpoint of BC. Given AB = 5 cm, find the length of AD by means of AC.",
        "missing",
    ),
    (
        MIDPOINT,
        "<image>\nGiven triangle ABC with AB = 5 cm, AC = 7 cm, BC = 8 cm and midpoint D of BC, find AD.",
        "added",
    ),
    (
        ANGLE,
        "In triangle ABC, angle A measures 60 degrees and angle B measures 60 degrees. What is angle C?",
        "one becomes the other",
    ),
    (AREA, "What is the area of the shaded region if the radius of the circle is 40 mm?", "converted"),
    (AREA, "If the radius of the circle is five cm, what is the area of the shaded region?", "changed and in words"),
    (AREA, "If the circle has some radius in cm, what is the area of the shaded region?", "missing"),
    (QUADRATIC, "Find the larger root of x² − 5x − 6 + 12 = 0.", "an equal equation with other numbers"),
    (BARS, "<image>\nHow many bars in the chart are taller than 25?", "changed"),
    (BARS, "<image>\nHow many bars in the chart are tall?", "missing"),
    (SPEED, "A car travels 120 km in 3 hours. Find its average speed in km/h.", "changed"),
    (RATIO, "The ratio of boys to girls in a class is 3:5. If there are 28 students, how many are girls?", "changed"),
    ("What is 30% of the total?", "How much is 3% of the total?", "a digit lost"),
    (
        "The temperature is -5 °C now. It rises by 3 °C. What is it?",
        "The temperature is now 5 °C and rises by 3 °C. What is it then?",
        "the sign",
    ),
    ("AD is half of BC. BC = 12. Find AD.", "Given BC = 12, find AD.", "half is missing"),
    (
        "A bag holds three red and 5 green balls. How many balls?",
        "How many balls are in a bag with four red and 5 green balls?",
        "a word changed",
    ),
    (
        "AB is twice as long as CD. CD = 3. Find AB.",
        "AB is three times as long as CD, and CD = 3. What is AB?",
        "twice becomes three times",
    ),
    ("AB is twice as long as CD. CD = 3. Find AB.", "AB is as long as CD, and CD = 3. What is AB?", "twice is missing"),
    (
        "Two thirds of the 12 squares are shaded. How many?",
        "One third of the 12 squares are shaded. How many are there?",
        "another fraction",
    ),
    (
        "A recipe needs 3 1/2 cups. How many for 2 cakes?",
        "A recipe needs 3 cups. How many are needed for 2 cakes?",
        "half a mixed number",
    ),
    ("Find the value of 3.05 + x when x = 1.", "When x = 1, what is the value of 3.5 + x?", "a zero inside"),
    (
        "Both squares have side 4. Find the total area.",
        "All three squares have side 4. What is the total area?",
        "two becomes three",
    ),
    (
        "There are twenty-five apples in 5 boxes. How many per box?",
        "There are twenty-six apples in 5 boxes. How many are in each?",
        "a compound number",
    ),
    ("In 2015, what was the profit?", "What was the profit in 2016?", "a year"),
    ("What is the 2nd term?", "What is the third term of it?", "an ordinal"),
    (TRAPEZOID, "如图，梯形ABCD中，AD∥BC，∠B=30°，∠C=45°，AD=4，AB=6，BC是多长？", "改数"),
    (TRAPEZOID, "如图，梯形ABCD中，AD∥BC，∠B=30°，∠C=60°，AD=4，BC是多长？AB已知。", "缺数"),
    ("小明有三个苹果，吃了5颗糖，还有几个苹果？", "小明有四个苹果，吃了5颗糖，苹果还有几个？", "三变四"),
    ("长方形的长是8米，宽是长的二分之一，求面积。", "长方形长8米，宽是长的三分之一，面积是多少？", "分数"),
]

UNITS = [
    (
        MIDPOINT,
        "<image>\nIn triangle ABC, D is the midpoint of BC. If AB = 5 m and AC = 7 m, what is the length of AD?",
        "cm to m",
    ),
    (MIDPOINT, "<image>\nIn triangle ABC, D is the midpoint of BC. If AB = 5 and AC = 7, how long is AD?", "missing"),
    (
        CHORD,
        "<image>In circle O, chord AB has length 8 cm and the distance from O to AB is 3 cm. How large is the radius?",
        "added",
    ),
    (AREA, "What is the area of the shaded region if the radius of the circle is 4 inches?", "inches"),
    (SPEED, "A car travels 120 km in 2 hours. What is its average speed in m/s?", "another unit asked for"),
    (SPEED, "A car travels 120 miles in 2 hours. What average speed in km/h does it have?", "miles"),
    (
        "A box is 5 cm wide and 3 m long. Find its area.",
        "A box is 3 cm wide and 5 m long. What is its area?",
        "swapped",
    ),
    (
        "The field has an area of 12 m². How long is its side?",
        "The field has an area of 12 m. How long is its side?",
        "a power",
    ),
    ("A packet weighs 5 kg. How heavy are 3 packets?", "A packet weighs 5 g. How heavy are 3 packets?", "grams"),
    ("How many 5-minute pauses fit into 2 hours?", "How many 5-second pauses fit into 2 hours?", "seconds"),
    (r"Find the arc for an angle of $30^\circ$.", "Find the arc for an angle of 30.", "degrees are missing"),
    (
        "The price rose by 5%. Was it 40 before?",
        "The price rose by 5. It was 40 before, wasn't it?",
        "percent is missing",
    ),
    ("一个圆的半径是5厘米，求它的面积。", "一个圆的半径是5米，它的面积是多少？", "米"),
    ("长方形的面积是20平方厘米，宽4厘米，求长。", "长方形的面积是20平方米，宽4厘米，它有多长？", "平方米"),
]

NAMES = [
    (
        MIDPOINT,
        "<image>\nIn triangle ABC, E is the midpoint of BC. If AB = 5 cm and AC = 7 cm, find the length of AE.",
        "another point",
    ),
    (ANGLE, "In triangle ABC, ∠A = 40° and ∠B = 60°. Find ∠D.", "another angle"),
    (ANGLE, "In triangle ABD, ∠A = 40° and ∠B = 60°. Find ∠C.", "another triangle"),
    (LINE, "The line y = 2t + 3 meets the x-axis at point P. Where is P?", "another variable"),
    ("In right triangle ABC, find sin A.", "In right triangle ABC, find cos A.", "another function"),
    (r"Find the measure of $\angle BAC$.", r"What is the measure of $\angle ABC$?", "another vertex"),
    ("Find the length of AB.", "What is the length of CD?", "another segment"),
    ("Find the length of AB.", "How long is it?", "missing"),
    ("How long is the segment?", "How long is the segment AB?", "added"),
    (r"Find $\alpha$ in the figure.", r"What is $\beta$ in the figure?", "another Greek letter"),
    (r"What does $\hbar$ stand for?", r"What is meant by $\ell$?", "another command"),
    ("How much CO2 forms?", "What amount of H2O forms?", "another molecule"),
    ("Find x1 in the diagram.", "What is x2 in the diagram?", "another index"),
    ("What is R1 in the circuit?", "How large is R in the circuit?", "the index is missing"),
    (CIRCLE_ZH, "如图，AB是⊙O的直径，点D在⊙O上，∠ABD=30°，求∠BAD的度数。", "换点"),
    ("求AB的长。", "求BC的长是多少。", "换线段"),
]

FORMULAS = [
    ("AB is parallel to CD and BC = 4. Find AD.", "If AB ∥ BC and CD = 4, what is AD?", "another parallel"),
    (
        "D is the midpoint of BC in triangle ABC; AC is drawn. Find AD.",
        "In triangle ABC, D is the midpoint of AC; BC is drawn. Find AD.",
        "another midpoint",
    ),
    (
        "A cone has a base radius of 3 cm and a height of 4 cm. Find its volume.",
        "Find the volume of a cone whose height is 3 cm and whose base radius is 4 cm.",
        "roles swapped",
    ),
    (
        r"If $\alpha \in Q$, is $\cos\alpha$ given?",
        r"If $\alpha \subset Q$, is $\cos\alpha$ given?",
        "another relation",
    ),
    (LINE, "The line y = 3x + 2 meets the x-axis at point P. Find the coordinates of P.", "numbers swapped"),
    (LINE, "The line y = 2x - 3 meets the x-axis at point P. What are the coordinates of P?", "the sign"),
    (QUADRATIC, "Find the larger root of x^2 + 5x - 6 = 0.", "signs swapped"),
    (QUADRATIC, "Find the larger root of 5x^2 - x + 6 = 0.", "a factor moved"),
    (
        MIDPOINT,
        "<image>\nIn triangle ABC, D is the midpoint of BC. If AB = 7 cm and AC = 5 cm, find the length of AD.",
        "values swapped",
    ),
    (ANGLE, "In triangle ABC, ∠A is 60° and ∠B is 40°. What is ∠C?", "values swapped in words"),
    (POINTS, "Find the distance between A(2, 1) and B(4, 6).", "coordinates swapped"),
    ("Find x if x > 3 and x < 5 for an integer x.", "Which integer x has x < 3 and x > 5?", "relations swapped"),
    (
        "Given AB = AC and BC = 3, find the perimeter of ABC.",
        "If AB = BC and AC = 3, what is the perimeter of ABC?",
        "names swapped",
    ),
    (
        "The ratio of boys to girls is 3:4. Find the share of girls.",
        "The ratio of boys to girls is 4:3. What share are girls?",
        "the ratio swapped",
    ),
    (r"Simplify $\frac{a}{b}+c$.", r"Simplify $\frac{a}{b+c}$.", "another fraction"),
    (r"Evaluate $\sqrt{x+1}$ at 3.", r"Evaluate $\sqrt{x}+1$ at 3.", "what is under the root"),
    (r"Find $AB+BC$.", r"What is $AB \cdot BC$?", "another operation"),
    (r"Find $AB+BC$.", r"What is $AB-BC$?", "another sign"),
    (r"If $f(x)=2^x$, find $f(3)$.", r"If $f(x)=x^2$, what is $f(3)$?", "base and exponent swapped"),
    ("已知y=2x+1与x轴交于点A，求A的坐标。", "已知直线y=x+2·1与x轴交于点A，则A的坐标是什么？", "系数"),
]

OPTIONS = [
    ("Which term?\nA. $2(x+1)$\nB. $2x$", "Which of the terms is it?\nA. $2x+1$\nB. $2x$", "brackets"),
    (COLOUR, "<image>\nName the colour of the ball.\nA. red\nB. green\nC. blue", "one is missing"),
    (COLOUR, "<image>\nName the colour of the ball.", "all are missing"),
    (COLOUR, "<image>\nName the colour of the ball.\nA. green\nB. red\nC. blue\nD. light blue", "reordered"),
    (COLOUR, "<image>\nName the colour of the ball.\nA. red\nB. green\nC. blue\nD. pale blue", "reworded"),
    (COLOUR, "<image>\nName the colour of the ball.\nA. red\nB. green\nC. blue\nD. light blue\nE. black", "one more"),
    (COLOUR, "<image>\nName the colour of the ball.\n1. red\n2. green\n3. blue\n4. light blue", "numbered"),
    (COLOUR, "<image>\nIs the ball red, green, blue or light blue?", "in a sentence"),
    (LENGTHS, "What is the length of AB?\nChoices:\n(A) 5 cm\n(B) 5 m\n(C) $\\frac{1}{3}$ cm\n(D) 12 cm", "a number"),
    (LENGTHS, "What is the length of AB?\nChoices:\n(A) 5 m\n(B) 5 m\n(C) $\\frac{1}{2}$ cm\n(D) 12 cm", "a unit"),
    ("How many dots are there?", "How many dots are there?\nA. 2\nB. 3", "added"),
    (CHOICE_ZH, "如图，已知AB∥CD，且∠1=50°，求∠2的大小。\nA．40°\nB．55°\nC．130°\nD．60°", "选项改变"),
    (CHOICE_ZH, "如图，已知AB∥CD，且∠1=50°，求∠2的大小。", "没有选项"),
]

MARKS = [
    (
        MIDPOINT,
        MIDPOINT.replace("find the length of AD", "how long is AD").replace("<image>", "<image><image>"),
        "two for one",
    ),
    (
        AREA,
        "<image> Given a circle of radius 4 cm, find the area of the shaded region.",
        "a mark that the problem lacks",
    ),
    (MIDDLE, "How many apples can be seen on the table?", "a mark in the middle is lost"),
    (TWO_IMAGES, "<image> In which of the two pictures are there more apples?", "one of two"),
    (BARS, "<image 1>\nCount the bars of the chart that are taller than 20.", "numbered"),
    (BARS, "<image_1>\nCount the bars of the chart that are taller than 20.", "numbered"),
    (BARS, "<|image_pad|>\nCount the bars of the chart that are taller than 20.", "a vision token"),
    (
        BARS,
        "<|vision_start|><image><|vision_end|>Count the bars of the chart that are taller than 20.",
        "vision tokens",
    ),
    (BARS, "<img>\nCount the bars of the chart that are taller than 20.", "another mark"),
    (BARS, "![chart](chart.png)\nCount the bars of the chart that are taller than 20.", "Markdown"),
    (BARS, '<img src="chart.png"> Count the bars of the chart that are taller than 20.', "HTML"),
    (BARS, "[IMAGE]\nCount the bars of the chart that are taller than 20.", "brackets"),
]
GOOD_MARKS = [
    Case(TWO_IMAGES, "More apples are in which of these two pictures?", "1", None, "both were in front"),
    Case(
        TWO_IMAGES, "Compare <image> with <image>: which of the two pictures shows more apples?", "1", None, "elsewhere"
    ),
    Case(MIDDLE, "How many apples lie on the table in <image>?", "4", None, "elsewhere"),
]

SAME = [
    ("How large is the 5 by 5 grid in m²?", "How large is the 5  by\t5 grid \n in \tm²?", "white space in phrases"),
    ("An object falls at 9.8 m/s². When?", "An object falls at 9.8\tm/s².  When?", "a tab before a unit"),
    (AREA, AREA, "the same"),
    (AREA, AREA.upper().replace("CM", "cm"), "capitals"),
    (AREA, "What is the area of the shaded region, if the radius of the circle is 4cm", "punctuation"),
    (MIDPOINT, MIDPOINT.removeprefix("<image>\n"), "the mark is gone"),
    (MIDPOINT, MIDPOINT.removeprefix("<image>\n") + "\n<image>", "the mark is elsewhere"),
    (MIDPOINT, MIDPOINT.replace("\n", "\n\n").replace(" ", "  "), "spaces"),
    (ANGLE, ANGLE.replace("$", ""), "no dollar signs"),
    (LINE, LINE.replace("y = 2x + 3", "y=2x+3"), "spaces in a formula"),
    (LENGTHS, LENGTHS.replace("$\\frac{1}{2}$", "$\\dfrac{1}{2}$"), "markup"),
    (COLOUR, COLOUR.replace("\n", " ").replace("A.", "A."), "in one line"),
    (TRAPEZOID, TRAPEZOID.replace("，", ", ").replace("。", "."), "标点"),
]

GIVEAWAYS = [
    (AREA, "Show that the area of the shaded region is 25 if the radius of the circle is 4 cm.", "25", "stated"),
    (BARS, "<image>\nWhich four bars of the chart are taller than 20?", "4", "in words"),
    (BARS, "<image>\nHow many bars in the chart are taller than 20? The answer is 4.", "4", "the answer is"),
    (BARS, "<image>\nHow many of the chart's bars are taller than 20? Answer: 4", "4", "Answer:"),
    (BARS, "<image>\nHow many of the chart's bars are taller than 20? \\boxed{4}", "4", "boxed"),
    (
        COLOUR,
        "<image>\nWhat colour has the green ball?\nA. red\nB. green\nC. blue\nD. light blue",
        "B",
        "the option's text",
    ),
    (
        COLOUR,
        "<image>\nWhat colour has the green ball?\nA. red\nB. green\nC. blue\nD. light blue",
        "green",
        "the same, a gold text",
    ),
    (
        COLOUR,
        "<image>\nName the ball's colour.\nA. red\nB. green\nC. blue\nD. light blue\nAnswer: B",
        "B",
        "a line behind",
    ),
    (
        COLOUR,
        "<image>\nName the ball's colour (the correct option is B).\nA. red\nB. green\nC. blue\nD. light blue",
        "B",
        "a letter",
    ),
    (
        COLOUR,
        "<image>\nName the ball's colour. Option B is correct.\nA. red\nB. green\nC. blue\nD. light blue",
        "B",
        "a letter",
    ),
    (FOOD, "<image> Is grass a producer in the food web shown?\nA. fox\nB. grass\nC. rabbit\nD. hawk", "B", "a hint"),
    ("Which city is marked on the map?", "Which city, Paris, is marked on the map?", "Paris", "a name"),
    (
        "What is the ratio of the areas?",
        r"Why is the ratio of the areas \frac{\sqrt{3}}{2}?",
        r"$\frac{\sqrt{3}}{2}$",
        "a formula",
    ),
    ("What is the slope?", "What is the slope, i.e. 1/2?", r"\frac{1}{2}", "a fraction"),
    (CHOICE_ZH, "如图，已知AB∥CD，且∠1=50°，求∠2的大小。答案是B。\nA．40°\nB．50°\nC．130°\nD．60°", "B", "答案"),
    ("图中是什么动物？", "图中的熊猫是什么动物？", "熊猫", "说出"),
    (CIRCLE_ZH, "如图，AB为⊙O的直径，C在⊙O上，∠ABC=30°，则∠BAC的度数是多少？答案：60°", "60°", "答案"),
]
NO_GIVEAWAYS = [
    Case(
        COLOUR, "<image>\nIs the ball red or green?\nA. red\nB. green\nC. blue\nD. light blue", "A", None, "two options"
    ),
    Case(
        "Which picture has the triangle?",
        "Three pictures are shown. Which has the triangle?",
        "Picture 3",
        None,
        "no number",
    ),
    Case(
        BARS,
        "<image>\nCount the chart's bars that are taller than 20. Give the answer as a number.",
        "4",
        None,
        "talks of the answer",
    ),
    Case(
        "How many legs has the animal?", "What number of legs does the one animal have?", "1", None, "one is a pronoun"
    ),
    Case("What colour is it, red or blue?", "Is its colour red or blue?", "red", None, "the problem names it"),
    Case("Is the bar red?", "Does the bar have the colour red? Say yes or no.", "Yes", None, "yes or no"),
    Case(
        "What is the area if a side is 4?",
        "Given a side of 4, find the area.",
        "4",
        None,
        "the number is in the problem",
    ),
    Case(
        COLOUR,
        "<image>\nIs the ball's colour red, green or some blue?\nA. red\nB. green\nC. blue\nD. light blue",
        "B",
        None,
        "several options",
    ),
]

LENGTH = [
    (MIDPOINT, "<image> In ABC, find AD.", checks.TOO_SHORT, "almost nothing left"),
    (AREA, "Area?", checks.TOO_SHORT, "one word"),
    (
        "Find x.",
        "Look carefully at the picture and consider all the relations between the quantities drawn in it, since they "
        "are the key to the puzzle, and then find x, please.",
        checks.TOO_LONG,
        "padding",
    ),
    (AREA, AREA + " word" * 2000, checks.TOO_LONG, "beyond the cap"),
    (AREA, "", checks.EMPTY, "nothing"),
    (AREA, " \n\t", checks.EMPTY, "blank"),
    (AREA, "???", checks.EMPTY, "no word"),
    (BARS, "<image>", checks.EMPTY, "a mark only"),
    (AREA, "What is the area of the shaded region if the radius\x00 is 4 cm?", checks.CONTROL_CHARACTERS, "NUL"),
    (AREA, "What is the area of the shaded region if the radius \x1b[1m is 4 cm?", checks.CONTROL_CHARACTERS, "escape"),
    (
        AREA,
        "Find the area of the shaded region if the radius is 4 cm \ud800.",
        checks.CONTROL_CHARACTERS,
        "half a surrogate pair",
    ),
    (
        AREA,
        "Find the area of the shaded region if the radius is 4 cm \u202e.",
        checks.CONTROL_CHARACTERS,
        "right to left",
    ),
    (
        AREA,
        "Find the area of the sh\ufffdded region if the radius is 4 cm.",
        checks.CONTROL_CHARACTERS,
        "a replacement character",
    ),
]

LANGUAGE = [
    ("求AB的长。", "Find AB.", "English for very short Chinese"),
    (AREA, "如果圆的半径是4厘米，阴影部分的面积是多少？", "Chinese for English"),
    (
        TRAPEZOID,
        "In the figure, ABCD is a trapezoid with AD ∥ BC, ∠B = 30°, ∠C = 60°, AD = 4 and AB = 6. Find BC.",
        "English for Chinese",
    ),
    (AREA, "Чему равна площадь закрашенной области, если радиус круга равен 4 cm?", "Russian"),
    (AREA, "Wie groß ist die Fläche, wenn der Radius des Kreises 4 cm ist und welche Einheit hat sie?", "German"),
    (AREA, "Quelle est l'aire de la région ombrée dans la figure si le rayon du cercle est 4 cm ?", "French"),
    (AREA, "¿Cuál es el área de la región sombreada del círculo en la figura si el radio es 4 cm?", "Spanish"),
    (AREA, "Diện tích của phần tô đậm trong hình là bao nhiêu nếu bán kính là 4 cm?", "Vietnamese"),
    (AREA, "यदि वृत्त की त्रिज्या 4 cm है तो छायांकित भाग का क्षेत्रफल क्या है?", "Hindi"),
    (AREA, "إذا كان نصف قطر الدائرة 4 cm فما مساحة المنطقة المظللة؟", "Arabic"),
    (
        CIRCLE_ZH,
        "図において、ABは⊙Oの直径、点Cは⊙O上にあり、∠ABC=30°のとき、∠BACは何度ですか。",
        "Japanese for Chinese",
    ),
    (AREA, "What is the area of the shaded region 阴影部分的面积 if the radius of the circle is 4 cm?", "mixed"),
    ("삼각형 ABC의 넓이를 구하시오.", "Find the area of the triangle ABC.", "English for Korean"),
]

CHATTER = [
    "Sure! {}",
    "Certainly, {}",
    "Of course! {}",
    "Okay, {}",
    "Here is the rewritten question: {}",
    "Here's another way to ask it:\n{}",
    "Here are some variants:\n{}",
    "Rewritten question: {}",
    "**Rephrased:** {}",
    "Rephrased question: {}",
    "Paraphrase: {}",
    "Version 2: {}",
    "Variant 1: {}",
    "Variant A: {}",
    "Question: {}",
    "Q2: {}",
    "1. {}",
    "2) {}",
    "(3) {}",
    "- {}",
    "* {}",
    "# Question\n{}",
    "```\n{}\n```",
    "<think>I keep the numbers.</think> {}",
    "<question>{}</question>",
    "{}<|im_end|>",
    '["{}"]',
    '{{"question": "{}"}}',
    '"{}"',
    "“{}”",
    "{}\n\nNote that I kept all numbers the same.",
    "{}\nNote: the meaning is unchanged.",
    "{}\nExplanation: I moved the condition.",
    "{} (This version keeps the numbers.)",
    "{}\nI have rephrased the question.",
    "{}\nLet me know if you need more!",
    "{} Hope this helps!",
    "好的，{}",
    "当然！{}",
    "以下是改写后的问题：{}",
    "改写：{}",
    "版本2：{}",
    "问题：{}",
    "{}\n注：数字不变。",
]
REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "Sorry, I cannot rephrase this question about the circle of radius 4 cm.",
    "I cannot see the image with the shaded region and the circle.",
    "As an AI language model, I can't view a circle of radius 4 cm.",
    "I apologize, but the area of the shaded region is unclear.",
    "Unfortunately, I am unable to reword it.",
    "I am not able to provide another wording of the radius of 4 cm.",
    "抱歉，我无法改写这个问题。",
    "作为一个AI语言模型，我看不到图片。",
    "对不起，我不能回答。",
]

CONTRASTS = [
    (
        MIDPOINT,
        "<image>\nIn triangle ABC, D is the midpoint of BC. If AB = 5 cm, AC = 7 cm and AD is drawn, how long is BC?",
        "another side",
    ),
    ("求AB的长，其中BC=3，AB∥CD。", "已知BC=3，AB∥CD，求CD的长。", "另一条线段"),
    (AREA, "What is the perimeter of the shaded region if the radius of the circle is 4 cm?", "area becomes perimeter"),
    (AREA, "What is the area of the shaded region if the diameter of the circle is 4 cm?", "radius becomes diameter"),
    (BARS, "<image>\nHow many bars in the chart are shorter than 20?", "taller becomes shorter"),
    ("Which bar is the highest?", "Which bar is the lowest one?", "highest becomes lowest"),
    (
        "How many balls are left of the red cube?",
        "How many balls are to the right of the red cube?",
        "left becomes right",
    ),
    ("How many red cubes are there?", "How many blue cubes can you see?", "red becomes blue"),
    ("By how much did sales increase?", "By how much did sales decrease then?", "increase becomes decrease"),
    ("Find the sum of the digits shown.", "What is the product of the digits shown?", "sum becomes product"),
    ("Find the mean of the data shown.", "What is the median of the data shown?", "mean becomes median"),
    ("Is x odd?", "Is x an even number?", "odd becomes even"),
    ("Which of these is NOT a mammal?", "Which of these is a mammal?", "not is lost"),
    ("Which animal cannot fly?", "Which animal can fly in the picture?", "cannot is lost"),
    ("下列说法不正确的是哪个？", "下列哪个说法是正确的？", "否定丢失"),
    ("求三角形的面积。", "求这个三角形的周长。", "面积变周长"),
    ("哪个柱子最高？", "哪个柱子是最低的？", "最高变最低"),
]

BAD = (
    [
        Case(problem, wording, "17", fault, why)
        for group, fault in (
            (NUMBERS, checks.OTHER_NUMBERS),
            (UNITS, checks.OTHER_UNITS),
            (NAMES, checks.OTHER_NAMES),
            (FORMULAS, checks.OTHER_FORMULAS),
            (MARKS, checks.IMAGE_MARKS),
            (SAME, checks.SAME_TEXT),
            (LANGUAGE, checks.OTHER_LANGUAGE),
            (CONTRASTS, checks.OTHER_QUESTION),
        )
        for problem, wording, why in group
    ]
    + [Case(problem, wording, "B", checks.OTHER_OPTIONS, why) for problem, wording, why in OPTIONS]
    + [Case(problem, wording, answer, checks.GIVES_ANSWER, why) for problem, wording, answer, why in GIVEAWAYS]
    + [Case(problem, wording, "17", fault, why) for problem, wording, fault, why in LENGTH]
    + [
        Case(
            AREA,
            dress.format("Find the area of the shaded part for a circle of radius 4 cm."),
            "17",
            checks.CHATTER,
            dress,
        )
        for dress in CHATTER
    ]
    + [Case(BARS, "<image>\nI'm sorry, I can't see the chart.", "4", checks.REFUSAL, "behind a mark")]
    + [Case(AREA, refusal, "17", checks.REFUSAL, "a refusal") for refusal in REFUSALS]
)

CASES = GOOD + GOOD_MARKS + NO_GIVEAWAYS + BAD
